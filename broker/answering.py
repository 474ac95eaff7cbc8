"""Answering requests for a service: the HTTP face, hints to its workers, and a sign that requests get through."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import httpx

from broker.api.listen import listening
from broker.celery_app import make_app
from broker.clock import wall_clock
from broker.core import worker_name
from broker.heart import BEAT_EVERY, Heart
from broker.hints import RemoteHints
from broker.service import Service
from broker.tasks import wakeups

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""Within which this process must answer itself."""


class Answering:
    """A process that answers. Its own request goes the way that every other one goes."""

    def __init__(self, service: Service, places: Sequence[str]) -> None:
        self.places = places
        self._heart = Heart(service.store, name=worker_name(), kind="serve", queues=places, clock=wall_clock)

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
    hints = RemoteHints(wakeups(make_app(settings.transport(), ca=settings.redis_ca)))
    with listening(service, settings, listen, lambda run_id: hints.runs([run_id])) as at:
        yield Answering(service, at.places)


def answers(place: str) -> bool:
    """Does whoever listens there say that all is well? `place`: the path of a socket, or http://HOST:PORT."""
    http = place.startswith("http://")
    transport = None if http else httpx.HTTPTransport(uds=place)
    try:
        with httpx.Client(
            transport=transport, base_url=place if http else "http://localhost", trust_env=False
        ) as client:
            return client.get("/v1/health", timeout=ANSWER_SECONDS).status_code == httpx.codes.OK
    except httpx.HTTPError as error:
        log.warning("no answer from this process itself at %s: %s", place, type(error).__name__)
        return False
