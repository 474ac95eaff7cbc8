"""Faces behind sockets on loopback: HTTP/1.1 with keep-alive, a thread per connection, and a clean stop."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qsl, unquote

from sandbox.faces.http import Face, Request
from sandbox.facility import FaultScript, NoFaults
from sandbox.serving.handling import Outcome, attend
from sandbox.serving.inprocess import pieces

log = logging.getLogger(__name__)

LARGEST = 256 << 20
"""Bytes of a request's body."""
_IDLE = 120.0
"""Seconds that a connection may wait for its next request."""


class FaceServer:
    """One face on one address. A context manager; on leaving, every connection is closed and every thread is over."""

    def __init__(
        self,
        face: Face,
        faults: FaultScript | None = None,
        *,
        name: str = "",
        host: str = "127.0.0.1",
        port: int = 0,
        on_request: Callable[[Request, int], object] | None = None,
    ) -> None:
        """Listens at once; `port` 0: a free one. `on_request(request, status)`: told of each answer, 0 for none.
        Raises OSError."""
        self.face, self.name = face, name
        self.faults: FaultScript = faults or NoFaults()
        self.on_request = on_request
        self.closing = threading.Event()
        self._server = _Server((host, port), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name=f"face-{name}", daemon=True
        )

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def address(self) -> str:
        """`http://127.0.0.1:8701`."""
        return f"http://{self._server.server_address[0]!s}:{self.port}"

    def __enter__(self) -> FaceServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128
    allow_reuse_address = True
    owner: FaceServer

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._lines: set[socket.socket] = set()
        self._lines_lock = threading.Lock()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Without the lookup of a host name that the parent makes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def add(self, line: socket.socket) -> None:
        with self._lines_lock:
            self._lines.add(line)

    def drop(self, line: socket.socket) -> None:
        with self._lines_lock:
            self._lines.discard(line)

    def hang_up(self) -> None:
        """Wake every thread that waits for its client."""
        with self._lines_lock:
            lines = list(self._lines)
        for line in lines:
            try:
                line.shutdown(socket.SHUT_RDWR)
            except OSError:
                log.debug("it had hung up before")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "sandbox"
    sys_version = ""
    timeout = _IDLE
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.add(self.connection)

    def finish(self) -> None:
        self.server.drop(self.connection)
        try:
            super().finish()
        except OSError:
            log.debug("the client has hung up")

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            log.debug("the client has hung up")

    def _serve(self) -> None:
        owner = self.server.owner
        body = self._body()
        if body is None:
            self.close_connection = True
            self.send_error(413)
            return
        raw, _, query = self.path.partition("?")
        host, port = self.connection.getsockname()[:2]
        request = Request(
            method=self.command,
            path=unquote(raw),
            query=parse_qsl(query, keep_blank_values=True),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
            host=f"http://{self.headers.get('Host') or f'{host}:{port}'}",
            face=owner.name,
        )
        outcome = attend(owner.face, request, owner.faults)
        if owner.on_request is not None:
            owner.on_request(request, 0 if outcome.response is None else outcome.response.status)
        self._send(outcome)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815 - the parent's names

    def handle_expect_100(self) -> bool:
        """Our output is buffered; the client waits for this line."""
        done = super().handle_expect_100()
        self.wfile.flush()
        return done

    def _body(self) -> bytes | None:
        """None: too large, or not to be understood."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunks()
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > LARGEST:
            return None
        return self.rfile.read(int(length))

    def _chunks(self) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        while True:
            try:
                count = int(self.rfile.readline(100).split(b";")[0], 16)
            except ValueError:
                return None
            size += count
            if count < 0 or size > LARGEST:
                return None
            if count == 0:
                while self.rfile.readline(1000) not in (b"\r\n", b"\n", b""):
                    pass
                return b"".join(parts)
            parts.append(self.rfile.read(count))
            self.rfile.readline(10)

    def _send(self, outcome: Outcome) -> None:
        if outcome.delay:
            self.server.owner.closing.wait(outcome.delay)
        response = outcome.response
        if response is None or self.server.owner.closing.is_set():
            self.close_connection = True
            return
        self.send_response(response.status)
        headers = {name.lower(): value for name, value in response.headers.items()}
        bare = response.status in (204, 304) or 100 <= response.status < 200
        chunked = response.parts is not None and "content-length" not in headers
        if chunked:
            headers["transfer-encoding"] = "chunked"
        elif not bare:
            headers.setdefault("content-length", str(len(response.body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD" or bare:
            _close(response.parts)
            return
        if outcome.cut is not None:
            self.wfile.write(response.body[: outcome.cut])
            self.close_connection = True
            return
        try:
            self._send_body(outcome, chunked=chunked)
        finally:
            _close(response.parts)

    def _send_body(self, outcome: Outcome, *, chunked: bool) -> None:
        streamed = chunked or outcome.pause > 0
        for part in pieces(outcome):
            if outcome.pause:
                self.server.owner.closing.wait(outcome.pause)
            if self.server.owner.closing.is_set():
                self.close_connection = True
                return
            if part:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            if streamed:
                self.wfile.flush()
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name
        log.debug(format, *args)


def _close(parts: object) -> None:
    close = getattr(parts, "close", None)
    if close is not None:
        close()
