"""After an answer is committed somebody may be told of it: off the request's path, and only as well as it goes."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

MOST = 10_000
"""Hints that wait; more are dropped: the sweep finds every run that is due."""


class Wakes:
    """Calls a function for each run that was given, in a thread of its own. Never raises, never waits."""

    def __init__(self, tell: Callable[[str], object] | None) -> None:
        self._tell = tell
        self._queue: queue.Queue[str | None] = queue.Queue(MOST)
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def give(self, run_id: str) -> None:
        """Somebody should look at this run."""
        if self._tell is None:
            return
        try:
            with self._guard:
                if self._closed:
                    return
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="crossfade-wakes", daemon=True)
                    self._thread.start()
                self._queue.put_nowait(run_id)
        except (queue.Full, RuntimeError):  # RuntimeError: no thread to be had
            log.debug("a hint was dropped")

    def close(self, *, patience: float = 2.0) -> None:
        """Tell what waits, if that takes no longer than `patience` seconds."""
        with self._guard:
            self._closed, thread = True, self._thread
        if thread is None:
            return
        try:
            self._queue.put(None, timeout=patience)
        except queue.Full:
            return
        thread.join(patience)

    def _work(self) -> None:
        while (run_id := self._queue.get()) is not None:
            try:
                if self._tell is not None:
                    self._tell(run_id)
            except Exception as error:  # noqa: BLE001 - a hint is only a hint
                log.debug("a hint was lost: %s", type(error).__name__)
