"""Serving the API in a thread of this process, until the context ends."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from anyio import to_thread
from uvicorn.protocols.http.h11_impl import H11Protocol

from broker.api.app import close_api, end_streams, make_api
from broker.api.auth import read_or_make_token
from broker.api.guard import MOST_HEADER_BYTES
from broker.api.people import read_people
from broker.api.places import BACKLOG, NONE, Port, open_port, open_socket, read_place
from broker.api.screens import News
from broker.config import Settings
from broker.errors import BrokerError
from broker.service import Service

log = logging.getLogger(__name__)

THREADS = 8
"""Requests that ask the store at once; more wait."""
CONNECTIONS = 128
HEADER_SECONDS = 10.0
"""Within which a connection must have said what it wants, from its beginning or from its last answer on."""
START_SECONDS = 10.0
STALLED_SECONDS = 20.0
"""After which who takes nothing of what is sent is hung up on, before the guard gives up sending."""
END_SECONDS = 5
"""For answers under way when the server stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where the API can be reached."""

    places: Sequence[str]
    """Paths of sockets, and http://HOST:PORT."""


@contextmanager
def listening(
    service: Service,
    settings: Settings,
    listen: str | Sequence[str],
    on_submitted: Callable[[str], object] | None = None,
    *,
    healthy: Callable[[], bool] = lambda: True,
    news: News | None = None,
) -> Iterator[Listening]:
    """Answer requests while the context lasts. `listen`: `unix`, `HOST:PORT` on loopback, both, or `none`.

    Makes the installation's token where there is none. Raises UsageError, AlreadyListening, Unwritable.
    """
    wanted = [listen] if isinstance(listen, str) else listen
    places = dict.fromkeys(read_place(text) for text in wanted if text != NONE)
    if not places:
        yield Listening(places=())
        return
    token, people = read_or_make_token(settings), read_people(settings)
    with ExitStack() as stack:
        sockets = [stack.enter_context(open_port(place) if place else open_socket(settings.socket)) for place in places]
        app = make_api(service, token, people=people, healthy=healthy, on_submitted=on_submitted, news=news)
        stack.callback(close_api, app)
        stack.enter_context(_running(app, sockets))
        stack.callback(end_streams, app)  # else the server would wait for them to end
        named = [_name(opened, place, settings) for opened, place in zip(sockets, places, strict=True)]
        yield Listening(places=named)


def _name(opened: socket.socket, place: Port | None, settings: Settings) -> str:
    return str(settings.socket) if place is None else f"http://{Port(place.host, opened.getsockname()[1])}"


@contextmanager
def _running(app: Any, sockets: list[socket.socket]) -> Iterator[None]:
    server = _Server(_config(app))
    thread = threading.Thread(target=server.run_here, args=(sockets,), name="crossfade-http", daemon=True)
    thread.start()
    try:
        if not server.settled.wait(START_SECONDS) or server.failure is not None:
            what = type(server.failure).__name__ if server.failure else "no answer in time"
            raise BrokerError(f"the HTTP server did not start: {what}")
        yield
    finally:
        server.should_exit = True
        thread.join(END_SECONDS + 5)


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        backlog=BACKLOG,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=END_SECONDS,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
    )


class _Server(uvicorn.Server):
    """Says when it has started; runs beside the main thread, so signals are not its business."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()
        self.failure: BaseException | None = None

    def run_here(self, sockets: list[socket.socket]) -> None:
        try:
            self.run(sockets=sockets)
        except BaseException as error:  # noqa: BLE001 - SystemExit is how uvicorn fails to start
            self.failure = error
            log.error("the HTTP server ended: %s", type(error).__name__)
        finally:
            self.settled.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        await super().startup(sockets)
        self.settled.set()


class _Protocol(H11Protocol):
    """uvicorn's, which waits without end for a request that never comes whole, and for an answer to be taken; this
    one hangs up."""

    _waiting: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type] # as uvicorn narrows it
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        self._flows()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        # to close such a connection in order would mean to wait until the other end takes what is left
        self._stalled = self.loop.call_later(STALLED_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        self._flows()
        super().resume_writing()

    def _flows(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()

    def on_response_complete(self) -> None:
        self._wait()  # first: what follows may begin the next request at once
        super().on_response_complete()

    def _wait(self) -> None:
        self._cancel()
        self._waiting = self.loop.call_later(HEADER_SECONDS, self._hang_up, self.cycle)

    def _cancel(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    def _hang_up(self, last: object) -> None:
        """Unless a request has come since."""
        if self.cycle is last and not self.transport.is_closing():
            self.transport.abort()
