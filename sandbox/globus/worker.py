"""The hand that works at tasks under real time: one thread, which moves bytes while questions are answered."""

from __future__ import annotations

import logging
import threading
from types import TracebackType

from sandbox.globus.service import GlobusService

log = logging.getLogger(__name__)

_LOOK = 0.1
"""Seconds between two looks at what others may have changed, such as a facility that is gone."""


class Worker:
    """A context manager; the service must have been made with `inline=False`."""

    def __init__(self, service: GlobusService) -> None:
        self.service = service
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="globus", daemon=True)

    def __enter__(self) -> Worker:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        with self.service.changed:
            self.service.changed.notify_all()
        self._thread.join()
        self.service.drop()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                if self.service.step(self.service.now()):
                    continue
            except Exception:
                log.exception("a step broke off")
            with self.service.changed:
                at = self.service.next_event_at()
                wait = _LOOK if at is None else min(_LOOK, (at - self.service.now()) / 1e6)
                if wait > 0 and not self._closed.is_set():
                    self.service.changed.wait(wait)
