"""Events over HTTP: told by a worker over Redis to who listens in another process, and without Redis a little later."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis_kit import RedisServer
from service_kit import PATIENCE, House, until

from broker.answering import answering
from broker.api import screens
from broker.client import Client

LONG = 3600.0
"""Seconds between looks by the clock that no test lives to see."""


class Watching:
    """Follows a run in a thread, and notes when each event came, by the wall's clock in seconds."""

    def __init__(self, client: Client, run: str) -> None:
        self._seen: queue.SimpleQueue[tuple[float, str] | Exception | None] = queue.SimpleQueue()
        self.came: list[tuple[float, str]] = []
        self._thread = threading.Thread(target=self._read, args=(client, run), daemon=True)
        self._thread.start()

    def _read(self, client: Client, run: str) -> None:
        try:
            for view in client.events(run):
                self._seen.put((time.time(), view["event"]))
            self._seen.put(None)
        except Exception as error:
            self._seen.put(error)

    def to_the_end(self) -> list[str]:
        while (seen := self._seen.get(timeout=PATIENCE)) is not None:
            if isinstance(seen, Exception):
                raise seen
            self.came.append(seen)
        self._thread.join(PATIENCE)
        return [kind for _, kind in self.came]


@pytest.fixture
def watch(home: House) -> Iterator[Callable[..., Any]]:
    """Submits a run over HTTP to a server in this process, follows it, and answers with what it saw."""
    with answering(home.service, ["unix"]), Client.of_home(home.service.settings) as client:

        def submitted() -> tuple[str, Watching]:
            run = client.submit(home.document({"a": {}, "b": {"needs": ["a"]}})).run
            return run, Watching(client, run)

        yield submitted


def test_who_follows_a_run_hears_of_it_from_another_process_by_news_alone(
    home: House, watch: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screens, "LOOK_EVERY", LONG)
    home.start("worker")
    home.gets_on("worker")
    run, watching = watch()
    kinds = watching.to_the_end()
    assert kinds == [event["event"] for event in home.service.timeline(run)][: len(kinds)]
    assert (kinds[0], home.state(run)) == ("submitted", "SUCCEEDED")


def test_without_redis_the_same_is_told_a_look_by_the_clock_later(
    home: House, watch: Callable[..., Any], redis: RedisServer
) -> None:
    home.start("worker")
    home.gets_on("worker")
    redis.kill9()
    run, watching = watch()
    kinds = watching.to_the_end()
    told = [event.at / 1e6 for event in home.store.events(run)][: len(kinds)]
    assert max(came - at for (came, _), at in zip(watching.came, told, strict=True)) < 5  # two looks, on a busy machine
    redis.restart()
    until(lambda: "hints can be sent again" in home.told(), "the worker has its transport again")
