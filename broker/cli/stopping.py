"""Ctrl-C and SIGTERM end a watch or a server, never the jobs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether somebody wants us to stop; `signal_number` says how they asked."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.signal_number = 0

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep, but not when asked to stop; True: asked."""
        return self._asked.wait(seconds)

    def ask(self, signal_number: int) -> None:
        """The first time: stop in good order. The second time: end at once, for the person does not want to wait."""
        if self.asked:
            os._exit(128 + signal_number)
        self.signal_number = signal_number
        self._asked.set()


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Signals ask to stop while the context lasts. In the main thread only."""
    stop = Stop()

    def handle(number: int, _frame: FrameType | None) -> None:
        stop.ask(number)

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
