"""Who is told in tests: an HTTPS server, a mail server, a command, all of them real and on this machine."""

from __future__ import annotations

import email
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.message import Message as Mail
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from broker_kit import Lab, Stage, fresh_store, new_run
from tls_kit import make_certificates

from broker.alerts.rows import AlertRow, Over, entries_json
from broker.clock import VirtualClock
from broker.deadlines import DeadlineRow, new_deadline
from broker.store.base import Changes

Told = Sequence[tuple[str, Sequence[str]]]


def submit(
    lab: Lab,
    *stages: Stage,
    notify: Told = (),
    within: float | None = None,
    on_miss: str = "continue",
    of_stages: Sequence[tuple[int, float, str]] = (),
) -> str:
    """A run that tells people, and is to be done in time. `of_stages`: (number, seconds within, on_miss)."""
    run_id = f"told-{len(lab.store.runs()) + 1}"
    new, now = new_run(run_id, stages, now=lab.clock()), lab.clock()
    dated: list[DeadlineRow] = [
        new_deadline(run_id, n, within=seconds, since=now, on_miss=then, now=now)
        for n, seconds, then in ([(-1, within, on_miss)] if within is not None else []) + list(of_stages)
    ]
    row = new.run._replace(notify=entries_json(notify), deadlines=len(dated))
    lab.store.create_run(replace(new, run=row, deadlines=dated))
    return run_id


def alerts(lab: Lab, kind: str = "") -> list[AlertRow]:
    """All there are, oldest first."""
    return [row for row in reversed(lab.store.alerts.ls()) if kind in ("", row.kind)]


# -- a webhook -------------------------------------------------------------------------------------------------


@dataclass
class Hook:
    """What a webhook was sent, and what it answers."""

    address: str
    host: str
    ca: Path
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    """Codes for the next requests; then 204."""
    location: str = ""

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@contextmanager
def webhook(folder: Path) -> Iterator[Hook]:
    """An HTTPS server on loopback with a certificate of an authority of its own."""
    certificates = make_certificates(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.got.append((dict(self.headers), body))
            self.send_response(hook.answers.pop(0) if hook.answers else 204)
            if hook.location:
                self.send_header("Location", hook.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Who breaks a handshake off is no error of ours."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        host = f"127.0.0.1:{server.server_address[1]}"
        hook = Hook(f"https://{host}/told?k=v", host, certificates.ca)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hook
        finally:
            server.shutdown()
            thread.join()


# -- a mail server ---------------------------------------------------------------------------------------------


@dataclass
class Sink:
    """A mail server that keeps what it takes, and refuses whom it is told to."""

    port: int
    mails: list[Mail] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    greylisted: int = 0
    """So many messages are put off first."""


@contextmanager
def mail_sink() -> Iterator[Sink]:
    """RFC 5321, as much of it as a client needs that speaks plainly."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 sink")
            while line := self.rfile.readline():
                word = line[:4].upper().decode("ascii", "replace").strip()
                answer = self._answer(word, line.decode("utf-8", "replace"))
                self._say(answer)
                if word == "QUIT":
                    return

        def _answer(self, word: str, line: str) -> str:
            if word == "RCPT":
                to = line.partition("<")[2].partition(">")[0]
                return "550 nobody of that name" if to in sink.refused else "250 ok"
            if word == "DATA":
                self._say("354 go on")
                return self._take()
            known = {"EHLO": "250 sink", "HELO": "250 sink", "MAIL": "250 ok", "RSET": "250 ok", "QUIT": "221 bye"}
            return known.get(word, "500 what?")

        def _take(self) -> str:
            lines = []
            while (line := self.rfile.readline()) != b".\r\n":
                lines.append(line[1:] if line.startswith(b"..") else line)
            if sink.greylisted:
                sink.greylisted -= 1
                return "451 come again"
            sink.mails.append(email.message_from_bytes(b"".join(lines)))
            return "250 kept"

        def _say(self, text: str) -> None:
            self.wfile.write(text.encode() + b"\r\n")

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        sink = Sink(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield sink
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def deaf_port() -> Iterator[int]:
    """Takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


Tell = Callable[[str, Any], None]


def fresh_alerts() -> tuple[Any, Callable[[Sequence[AlertRow], Sequence[Over], int], None]]:
    """An empty store in memory with one run, and what writes to it as its decisions do."""
    clock = VirtualClock()
    store = fresh_store(clock, lambda _: 7)
    store.create_run(new_run("r", [Stage("a"), Stage("b")], now=clock()))

    def decide(new: Sequence[AlertRow], over: Sequence[Over], now: int) -> None:
        lease = store.acquire("r", owner="decider", ttl=60.0)
        assert lease is not None
        with store.deciding(lease, ttl=60.0) as tx:
            tx.apply(Changes(alerts=list(new), alerts_over=list(over)), now=now)

    return store, decide
