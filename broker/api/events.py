"""A run's events as Server-Sent Events, to the run's end. What is told is what the store holds, each event once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from anyio import CapacityLimiter, to_thread
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from broker import sse
from broker.api.problems import RETRY_BUSY, problem
from broker.api.screens import Bell, Screens
from broker.states import RunState
from broker.store.base import EventRow, Store, StoreError
from broker.views import clean_text, event_view

PAGE = 500
"""Events in one look; more follow at once."""
QUIET_SECONDS = 10.0
"""After which a comment says that the stream is alive."""
LOOKS_AT_ONCE = 2
"""Threads for the looks of all streams, beside the routes' own: watching must not keep anybody from submitting."""
RETRY = "retry: 1000\n\n"
"""Milliseconds after which a reader that lost its connection comes back."""
ALIVE = ": nothing new\n\n"


class Looks:
    """Looks into the store for all streams of a server, a few at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._limiter: CapacityLimiter | None = None

    async def at(self, run_id: str, after: int) -> tuple[str | None, Sequence[EventRow]]:
        """The run's state, None when it has gone, and what happened after that event. Raises StoreError."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(LOOKS_AT_ONCE)
        return await to_thread.run_sync(self._look, run_id, after, limiter=self._limiter)

    def _look(self, run_id: str, after: int) -> tuple[str | None, Sequence[EventRow]]:
        row = self._store.run(run_id)  # first: the events of a run that is over are all there
        return (None if row is None else row.state), self._store.events(run_id, after=after, limit=PAGE)


class Stream(Response):
    """One reader's stream. A reader that does not read holds up nobody else: it has a task, and no thread."""

    media_type = sse.MEDIA_TYPE

    def __init__(self, screens: Screens, looks: Looks, run_id: str, *, after: int) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._screens, self._looks, self._run_id, self._after = screens, looks, run_id, after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._screens.opened(self._run_id) as bell:
            if bell is None:
                refused = problem("streams", headers={"Retry-After": str(RETRY_BUSY)}, help="close one, or ask later")
                await refused(scope, receive, send)
                return
            leaving = asyncio.create_task(_leaves(receive, bell))
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async for text in self._texts(bell):
                    await send(_part(text))
                await send(_part("", more=False))
            finally:
                leaving.cancel()
                with suppress(asyncio.CancelledError):
                    await leaving

    async def _texts(self, bell: Bell) -> AsyncIterator[str]:
        yield RETRY
        told_at = time.monotonic()
        while not bell.over:
            bell.hush()
            try:
                state, events = await self._looks.at(self._run_id, self._after)
            except StoreError:  # it was there when the stream began, and will be again
                state, events = "", ()
            if events:
                self._after, told_at = events[-1].seq, time.monotonic()
                yield "".join(map(_told, events))
            if len(events) == PAGE:
                continue
            if state is None:
                return
            if state and RunState(state).final:
                yield sse.written(sse.Message(sse.END, json.dumps({"run": self._run_id, "state": state})))
                return
            if time.monotonic() - told_at >= QUIET_SECONDS:
                told_at = time.monotonic()
                yield ALIVE
            await bell.wait(self._screens.look_every)


async def _leaves(receive: Receive, bell: Bell) -> None:
    """Ends the stream when its reader goes."""
    while (await receive())["type"] != "http.disconnect":
        pass
    bell.ring(over=True)


def _part(text: str, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}


def _told(event: EventRow) -> str:
    """All in ASCII: what a site said cannot steer the terminal of who reads the bare stream, nor of who decodes it."""
    data = json.dumps(_clean(event_view(event)))
    return sse.written(sse.Message(event.kind, data, str(event.seq)))


def _clean(value: object) -> object:
    match value:
        case str():
            return clean_text(value)
        case dict():
            return {clean_text(key): _clean(inner) for key, inner in value.items()}
        case list():
            return [_clean(inner) for inner in value]
    return value
