"""A TCP proxy that does wrong on demand: between a client and any server, with faults switched while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
CHUNK = 65536
ANSWERS_WITHIN = 20.0
"""Seconds the proxy's own thread may take to do as told."""


class Way(enum.Enum):
    """Which way the bytes go."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


BOTH = frozenset(Way)


@dataclass(slots=True)
class LostReplies:
    """Replies that do not arrive: of connections in which `after` went by, or of every one; of `left` more of them."""

    after: bytes | None
    left: int | None


@dataclass(slots=True)
class Faults:
    """What the proxy does wrong now."""

    refusing: bool = False
    held: frozenset[Way] = frozenset()
    delays: dict[Way, float] = field(default_factory=dict)
    limits: dict[Way, int] = field(default_factory=dict)
    lost_replies: LostReplies | None = None


class Proxy:
    """Listens on a free port of the loopback, and passes on to `target` until it is closed. A context manager.

    Every verb returns when it has taken effect, and holds for the connections there are and for those to come,
    until `heal`. `connections` counts those taken, `passed` the bytes each way that went through.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        self.connections = 0
        self.passed: Counter[Way] = Counter()
        self._faults = Faults()
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    # -- faults ------------------------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Connections to come are reset as soon as they are made; those there are go on."""
        self._set(refusing=True)

    def cut(self) -> None:
        """Reset all connections, now; new ones are welcome."""
        self._each(_Link.reset)

    def black_hole(self, *ways: Way) -> None:
        """Take connections and pass nothing on, one way or both; what was kept arrives at `heal`, late, as with TCP."""
        self._set(held=frozenset(ways) or BOTH)

    def delay(self, seconds: float, *ways: Way) -> None:
        """Keep each piece that long before it is passed on."""
        self._set(delays=dict.fromkeys(ways or BOTH, seconds))

    def truncate(self, way: Way, after: int) -> None:
        """Each connection passes that many bytes more that way, and is closed."""
        self._each(lambda link: link.counts_from_here(way))
        self._set(limits={way: after})

    def half_close(self, way: Way) -> None:
        """Those that are connected now see the end of the stream that way; the other way goes on."""
        self._each(lambda link: link.half_close(way))

    def drop_replies(self, *, after: bytes | None = None, times: int | None = None) -> None:
        """The server gets all, the client no answer: on every connection, or once the bytes `after` went to the server.

        `times`: on that many connections only. A connection that has lost bytes ends at `heal`.
        """
        self._set(lost_replies=LostReplies(after, times))

    def heal(self) -> None:
        """No more faults. What is whole goes on; connections that have lost bytes are reset."""
        self._do(self._heal)

    @property
    def live(self) -> int:
        """Connections that there are now."""
        return len(self._links)

    # -- its life ----------------------------------------------------------------------------------------------

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._taken, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWERS_WITHIN)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for link in list(self._links):
            link.reset()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWERS_WITHIN)

    def _do(self, change: Callable[[], None]) -> None:
        async def done() -> None:
            change()
            self._changed.set()  # wakes those who wait; the next ones wait for the next change
            self._changed = asyncio.Event()

        self._run(done())

    def _set(self, **faults: Any) -> None:
        def change() -> None:
            self._faults = replace(self._faults, **faults)

        self._do(change)

    def _each(self, what: Callable[[_Link], None]) -> None:
        def change() -> None:
            for link in list(self._links):
                what(link)

        self._do(change)

    def _heal(self) -> None:
        self._faults = Faults()
        for link in list(self._links):
            if link.has_lost:
                link.reset()

    # -- connections -------------------------------------------------------------------------------------------

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._faults.refusing:
            _reset(writer)
            return
        link = _Link(self, writer)
        self._links.add(link)
        try:
            await link.serve(reader)
        except (OSError, asyncio.CancelledError):  # nothing waits for this task, whom its end would concern
            link.reset()
        finally:
            self._links.discard(link)
            link.close()

    async def wait_as_told(self, way: Way) -> None:
        """Return when bytes may be passed on that way."""
        began = self._loop.time()
        while True:
            left: float | None = began + self._faults.delays.get(way, 0.0) - self._loop.time()
            if way in self._faults.held:
                left = None
            elif left is not None and left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    def limit(self, way: Way) -> int | None:
        return self._faults.limits.get(way)

    def loses_reply(self, sent: bytes) -> bool:
        """Does a connection lose its replies that sent this? Counted when said."""
        lost = self._faults.lost_replies
        if lost is None or lost.left == 0 or (lost.after is not None and lost.after not in sent):
            return False
        if lost.left is not None:
            lost.left -= 1
        return True


class _Link:
    """One connection through the proxy: two pumps."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter) -> None:
        self.proxy, self.client = proxy, client
        self.server: asyncio.StreamWriter | None = None
        self.has_lost = False
        self.loses = False
        self._sent = b""  # the last bytes to the server: enough to see a pattern that came in two pieces
        self._counted: Counter[Way] = Counter()
        self._pumps: dict[Way, asyncio.Task[None]] = {}

    async def serve(self, from_client: asyncio.StreamReader) -> None:
        await self.proxy.wait_as_told(Way.TO_SERVER)
        from_server, self.server = await asyncio.open_connection(*self.proxy.target)
        pumps = {Way.TO_SERVER: (from_client, self.server), Way.TO_CLIENT: (from_server, self.client)}
        self._pumps = {way: asyncio.ensure_future(self._pump(way, *ends)) for way, ends in pumps.items()}
        await asyncio.gather(*self._pumps.values(), return_exceptions=True)

    async def _pump(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(CHUNK):
                await self.proxy.wait_as_told(way)
                if not await self._passed(way, chunk, writer):
                    return
            await self.proxy.wait_as_told(way)  # the end of the stream travels as its bytes do
            writer.write_eof()
        except OSError:  # one side is gone without a good-bye: so is the other
            self.reset()

    async def _passed(self, way: Way, chunk: bytes, writer: asyncio.StreamWriter) -> bool:
        """Pass it on, or what of it may; False when that was the end."""
        if way is Way.TO_SERVER:
            self._sent = (self._sent + chunk)[-2 * CHUNK :]
        elif self.loses or self.proxy.loses_reply(self._sent):
            self.loses = self.has_lost = True
            return True
        limit = self.proxy.limit(way)
        if limit is not None:
            chunk = chunk[: limit - self._counted[way]]
        writer.write(chunk)
        await writer.drain()
        self._counted[way] += len(chunk)
        self.proxy.passed[way] += len(chunk)
        if limit is None or self._counted[way] < limit:
            return True
        self.close()
        return False

    def counts_from_here(self, way: Way) -> None:
        self._counted[way] = 0

    def half_close(self, way: Way) -> None:
        writer = self.server if way is Way.TO_SERVER else self.client
        if writer is not None and writer.can_write_eof():
            self._pumps[way].cancel()
            writer.write_eof()

    def reset(self) -> None:
        for writer in (self.client, self.server):
            if writer is not None:
                _reset(writer)

    def close(self) -> None:
        for writer in (self.client, self.server):
            if writer is not None:
                writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """The other side sees "connection reset by peer"."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() != -1:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
