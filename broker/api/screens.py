"""Who looks at runs as they go on: how many at once, and how each hears that it should look again.

News come from one thread for all (see `broker.news`), and may be lost, late or wrong: each screen looks by the clock,
too. Everything but `close` and the thread runs in the server's event loop, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

log = logging.getLogger(__name__)

MOST_SCREENS = 64
"""At once: half of the connections that the server takes."""
LOOK_EVERY = 1.0
"""Seconds between two looks where news are told: what a lost message costs."""
LOOK_EVERY_ALONE = 0.25
"""Seconds between two looks where nobody tells."""

News = Callable[[], Iterator[Sequence[str]]]
"""Runs that have news, as they are told: without end, and with an empty word every now and then."""


class Bell:
    """Says to one screen that it should look, or that it should end."""

    def __init__(self) -> None:
        self._rung, self.over = asyncio.Event(), False

    def ring(self, *, over: bool = False) -> None:
        self.over = self.over or over
        self._rung.set()

    def hush(self) -> None:
        """A look begins; what rings from now on is another one."""
        self._rung.clear()

    async def wait(self, seconds: float) -> None:
        """Until it rings, `seconds` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0 if self.over else seconds):
                await self._rung.wait()


class Screens:
    """Every screen of this process."""

    def __init__(self, news: News | None = None, *, most: int = MOST_SCREENS) -> None:
        self.look_every = LOOK_EVERY_ALONE if news is None else LOOK_EVERY
        self._news, self._most = news, most
        self._bells: dict[str, set[Bell]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextlib.contextmanager
    def opened(self, run_id: str) -> Iterator[Bell | None]:
        """A bell for somebody who looks at that run; None: there are too many."""
        if self._closed or sum(map(len, self._bells.values())) >= self._most:
            yield None
            return
        self._begin()
        bell = Bell()
        self._bells[run_id].add(bell)
        try:
            yield bell
        finally:
            self._bells[run_id].discard(bell)
            if not self._bells[run_id]:
                del self._bells[run_id]

    def close(self) -> None:
        """End all of them, from whatever thread. The thread that hears news ends by itself, soon."""
        self._closed = True
        self._in_loop(self._end)

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._news is not None and self._thread is None:
            self._thread = threading.Thread(target=self._hear, args=(self._news,), name="crossfade-news", daemon=True)
            self._thread.start()

    def _hear(self, news: News) -> None:
        try:
            for run_ids in news():
                if self._closed:
                    return
                self._in_loop(self._ring, run_ids)
        except Exception as error:  # noqa: BLE001 - whatever it is, screens look by the clock
            log.warning("no news are heard any more (%s); screens look every %g s", type(error).__name__, LOOK_EVERY)

    def _in_loop(self, call: Callable[..., None], *given: object) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is over, and with it all that would hear
                self._loop.call_soon_threadsafe(call, *given)

    def _ring(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            for bell in self._bells.get(run_id, ()):
                bell.ring()

    def _end(self) -> None:
        for bells in self._bells.values():
            for bell in bells:
                bell.ring(over=True)
