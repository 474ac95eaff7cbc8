"""What every request meets before any route: who may ask at all, how much, and for how long."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import traceback
from collections.abc import Sequence

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.api.auth import Token
from broker.api.people import NOBODY, People
from broker.api.problems import Refusal, answer_for, problem

log = logging.getLogger(__name__)

MOST_BYTES = 16 << 20
"""Of a request's body."""
MOST_HEADER_BYTES = 16 << 10
"""Of a request's path, query and headers together."""
BODY_SECONDS = 30.0
"""Within which a body must have arrived."""
SEND_SECONDS = 30.0
"""Within which a client must take each part of an answer."""

WITHOUT_TOKEN = frozenset({"/v1/health", "/v1/health/live"})

PERSON = "crossfade.person"
"""Where a request's scope has the name of who asks; absent: who shows the installation's token."""

Headers = Sequence[tuple[bytes, bytes]]


class Guard:
    """The outermost layer: refuses, counts, and lets nothing out that is no answer of ours.

    The order matters: nothing is read of a body whose sender has shown no token.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: Token,
        people: People = NOBODY,
        most_bytes: int = MOST_BYTES,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._app, self._token, self._people = app, token, people
        self._most_bytes, self._body_seconds = most_bytes, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no lifespan, no web sockets: an empty end closes them
        sent = _Sent(send)
        try:
            self._admit(scope)
            body = await self._body(scope["headers"], receive)
            await self._app(scope, _replay(body, receive), sent)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, a client gets an answer without its words
            answer = answer_for(error) or _unexpected(error)
            if not sent.begun:
                await answer(scope, receive, sent)

    def _admit(self, scope: Scope) -> None:
        headers: Headers = scope["headers"]
        # the parser's own limit holds for what comes in pieces only
        said = sum(len(name) + len(value) for name, value in headers) + len(scope.get("raw_path") or b"")
        if said + len(scope["query_string"]) > MOST_HEADER_BYTES:
            raise Refusal("headers", f"path, query and headers may have {MOST_HEADER_BYTES} bytes together")
        if not is_loopback(_one(headers, b"host")):
            raise Refusal("host", "call it by localhost, 127.0.0.1 or [::1]")
        if any(name in (b"origin", b"sec-fetch-site") for name, _ in headers):
            raise Refusal("origin", "this interface is for programs; pages may not use it")
        self._identify(scope, _one(headers, b"authorization"))
        if _all(headers, b"content-encoding") not in ([], [b"identity"]):
            raise Refusal("media-type", "send the body as it is, not compressed")

    def _identify(self, scope: Scope, shown: bytes) -> None:
        """Note who asks: a person by name, or, with the installation's token, who serves."""
        if scope["path"] in WITHOUT_TOKEN or self._token.is_shown_by(shown):
            return
        person = self._people.who(shown)
        if person is None:
            raise Refusal("unauthorized", "send Authorization: Bearer TOKEN, with the token of the installation's file")
        scope[PERSON] = person

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body, counted as it comes: what its sender says of its length is believed only when too much."""
        length = _one(headers, b"content-length")
        if length.isdigit() and (len(length) > 18 or int(length) > self._most_bytes):
            raise self._too_large()
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._body_seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise ClientDisconnect
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._most_bytes:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError as error:
            raise Refusal("slow", f"a body must arrive within {self._body_seconds:g} s") from error

    def _too_large(self) -> Refusal:
        return Refusal("too-large", f"a body may have {self._most_bytes} bytes")


class _Sent:
    """Sends with the headers that every answer has; knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            headers = [*message.get("headers", []), *_EVERY]
            if message["status"] == 401:
                headers.append((b"www-authenticate", b'Bearer realm="crossfade"'))
            if message["status"] in (408, 413):
                headers.append((b"connection", b"close"))  # the rest of the body is not wanted
            message = {**message, "headers": headers}
        async with asyncio.timeout(SEND_SECONDS):
            await self._send(message)


_EVERY = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


def is_loopback(host: bytes) -> bool:
    """Does a Host header name this machine by itself? A page that rebinds its own name's address does not."""
    text = host.decode("latin-1")
    name, _, port = text.rpartition(":") if not text.endswith("]") and ":" in text else (text, "", "")
    if port and not (port.isascii() and port.isdigit()):
        return False
    if name.lower() == "localhost":
        return True
    bracketed = name.startswith("[") and name.endswith("]")
    try:
        address = ipaddress.ip_address(name[1:-1] if bracketed else name)
    except ValueError:
        return False
    return address.is_loopback and bracketed == (address.version == 6)


def _all(headers: Headers, wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]


def _one(headers: Headers, wanted: bytes) -> bytes:
    """The header's value; empty where it is missing, or there twice."""
    found = _all(headers, wanted)
    return found[0] if len(found) == 1 else b""


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body that was read, then what the connection says next."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _unexpected(error: Exception) -> Response:
    """For the log: what and where. Not the error's words, which may hold what was sent."""
    place = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
    where = f"{place.filename}:{place.lineno}" if place else "nowhere"
    log.error("a request failed: %s at %s", type(error).__name__, where)
    return problem("internal", "the server's log says where")
