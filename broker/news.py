"""Telling screens that a run has news: over Redis, where anybody may listen and nobody must.

A message names runs, and nothing else; what is new is read from the store. Who misses one sees the news at its next
look by the clock.
"""

from __future__ import annotations

import json
import logging
import ssl
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from broker.addresses import Address
from broker.celery_app import PREFIX

log = logging.getLogger(__name__)

CHANNEL = f"{PREFIX}news"
SECONDS = 2.0
"""For one call to Redis."""
DARK_FOR = 5.0
"""Seconds for which nothing is told after a failure."""
LONGEST = 1 << 16
"""Bytes of a message that is read at all."""


def make_client(redis: Address, *, ca: Path | None = None) -> Redis:
    """A client of our own beside Celery's, with the same care: it verifies, and never waits for long."""
    url = redis.url.replace("redis+socket://", "unix://", 1)
    options: dict[str, Any] = {}
    if redis.scheme == "rediss":
        options = {"ssl_cert_reqs": ssl.CERT_REQUIRED, **({"ssl_ca_certs": str(ca)} if ca else {})}
    return Redis.from_url(
        url,
        socket_timeout=SECONDS,
        **({} if url.startswith("unix") else {"socket_connect_timeout": SECONDS}),
        health_check_interval=10,
        retry=Retry(NoBackoff(), 0),
        **options,
    )


class Announcer:
    """Tells that runs have news. Never raises; after a failure it is silent for a while."""

    def __init__(self, client: Redis) -> None:
        self._client, self._dark_until = client, 0.0

    def tell(self, run_ids: Sequence[str]) -> None:
        if not run_ids or time.monotonic() < self._dark_until:
            return
        try:
            self._client.publish(CHANNEL, json.dumps(list(run_ids)))
        except RedisError as error:
            self._dark_until = time.monotonic() + DARK_FOR
            log.debug("news were not told: %s", type(error).__name__)


def listen(client: Redis, *, seconds: float) -> Iterator[Sequence[str]]:
    """Runs that have news, as they are told; an empty list when none were for `seconds`, or nobody can tell.

    For ever; close the generator to leave. Foreign messages are passed over.
    """
    while True:
        try:
            with client.pubsub(ignore_subscribe_messages=True) as told:  # type: ignore[no-untyped-call]
                told.subscribe(CHANNEL)
                while True:
                    message = told.get_message(timeout=seconds)
                    yield _runs_in(message["data"]) if message is not None else ()
        except RedisError:
            time.sleep(seconds)
            yield ()


def _runs_in(data: object) -> Sequence[str]:
    if not isinstance(data, bytes) or len(data) > LONGEST:
        return ()
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return ()
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else ()
