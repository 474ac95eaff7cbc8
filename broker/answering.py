"""Answering requests for a service: the HTTP face, hints to its workers, and a sign that requests get through."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from broker.api.listen import listening
from broker.api.places import reachable
from broker.celery_app import make_app
from broker.core import worker_name
from broker.heart import BEAT_EVERY, Heart
from broker.hints import RemoteHints
from broker.news import listen as news_from
from broker.news import make_client
from broker.service import Service
from broker.tasks import wakeups

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""Within which this process must answer itself."""
NEWS_SECONDS = 1.0
"""Between two words of who listens for news, and between two tries to listen."""


class Answering:
    """A process that answers. Its own request goes the way that every other one goes."""

    def __init__(self, service: Service, places: Sequence[str]) -> None:
        self.places = places
        self._heart = Heart(service.store, name=worker_name(), kind="serve", queues=places, clock=service.clock)

    def run(self, wait: Callable[[float], bool]) -> None:
        """Until `wait(seconds)` answers True."""
        self._heart.beat(progress=self._answers())
        while not wait(BEAT_EVERY):
            self._heart.beat(progress=self._answers())

    def _answers(self) -> bool:
        return all(answers(place) for place in self.places)


@contextmanager
def answering(service: Service, listen: Sequence[str]) -> Iterator[Answering]:
    """Listen, and hint at what is submitted. Raises UsageError, AlreadyListening, Unwritable."""
    settings = service.settings
    redis = settings.transport()
    hints = RemoteHints(wakeups(make_app(redis, ca=settings.redis_ca)))
    with (
        make_client(redis, ca=settings.redis_ca) as client,
        listening(
            service,
            settings,
            listen,
            lambda run_id: hints.runs([run_id]),
            news=lambda: news_from(client, seconds=NEWS_SECONDS),
        ) as at,
    ):
        yield Answering(service, at.places)


def answers(place: str) -> bool:
    """Does whoever listens there say that all is well? `place`: the path of a socket, or http://HOST:PORT."""
    try:
        with ExitStack() as stack:
            base, transport = place, None
            if not place.startswith("http://"):
                socket = stack.enter_context(reachable(Path(place)))
                base, transport = "http://localhost", httpx.HTTPTransport(uds=socket)
            client = stack.enter_context(httpx.Client(transport=transport, base_url=base, trust_env=False))
            return client.get("/v1/health", timeout=ANSWER_SECONDS).status_code == httpx.codes.OK
    except (httpx.HTTPError, OSError) as error:
        log.warning("no answer from this process itself at %s: %s", place, type(error).__name__)
        return False
