"""Ctrl-C, SIGTERM and a closed terminal end the demo in good order, however often they come."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from broker.cli.failing import Detached

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """Whether somebody wants the demo to end.

    Not `broker.cli.stopping`: there a second Ctrl-C leaves at once, jobs going on. Here nothing may be left behind.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._number = 0

    def ask(self, number: int) -> None:
        self._number = self._number or number
        self._asked.set()

    def wait(self, seconds: float) -> None:
        """Sleep. Raises Detached as soon as somebody asks."""
        if self._asked.wait(seconds):
            raise Detached(self._number, "the demo was stopped; all its processes are ended")


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Signals ask while the context lasts. In the main thread only."""
    interrupt = Interrupt()

    def handle(number: int, _frame: FrameType | None) -> None:
        interrupt.ask(number)

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
