"""A face as httpx's transport: the same handling as behind a socket, with no socket and no real time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qsl, unquote

import httpx

from sandbox.faces.http import Face, Request
from sandbox.facility import FaultScript, NoFaults
from sandbox.serving.handling import Outcome, attend


class InProcess(httpx.BaseTransport):
    """`httpx.Client(transport=InProcess(face, faults))`."""

    def __init__(
        self,
        face: Face,
        faults: FaultScript | None = None,
        *,
        name: str = "",
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """`name`: of the face, for fault scripts. `sleep`: how delays and drips pass the time; with a virtual clock,
        one that moves it. A delay longer than the client's patience costs that patience alone."""
        self._face = face
        self._faults = faults or NoFaults()
        self._name = name
        self._sleep = sleep
        self.requests = 0
        """How many have come."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        body = request.read()
        outcome = attend(self._face, _request(request, body, self._name), self._faults)
        patience = request.extensions.get("timeout", {}).get("read")
        if outcome.delay and patience is not None and outcome.delay >= patience:
            self._sleep(patience)
            raise httpx.ReadTimeout("no answer in time", request=request)
        if outcome.delay:
            self._sleep(outcome.delay)
        if outcome.response is None:
            raise httpx.RemoteProtocolError("server disconnected without sending a response", request=request)
        headers = dict(outcome.response.headers)
        if outcome.response.parts is None:
            headers.setdefault("content-length", str(len(outcome.response.body)))
        stream = _Stream(outcome, self._sleep, patience, empty=request.method == "HEAD")
        return httpx.Response(outcome.response.status, headers=headers, stream=stream, request=request)


class _Stream(httpx.SyncByteStream):
    def __init__(
        self, outcome: Outcome, sleep: Callable[[float], object], patience: float | None, *, empty: bool
    ) -> None:
        self._outcome, self._sleep, self._patience, self._empty = outcome, sleep, patience, empty

    def __iter__(self) -> Iterator[bytes]:
        outcome, response = self._outcome, self._outcome.response
        if response is None or self._empty:
            return
        if outcome.cut is not None:
            yield response.body[: outcome.cut]
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")
        for part in pieces(outcome):
            if outcome.pause:
                if self._patience is not None and outcome.pause >= self._patience:
                    raise httpx.ReadTimeout("no answer in time")
                self._sleep(outcome.pause)
            yield part

    def close(self) -> None:
        close = getattr(self._outcome.response and self._outcome.response.parts, "close", None)
        if close is not None:
            close()


def pieces(outcome: Outcome) -> Iterator[bytes]:
    """The body, as it is to be sent."""
    response = outcome.response
    if response is None:
        return
    if response.parts is not None:
        yield from response.parts
    elif outcome.piece:
        for at in range(0, len(response.body), outcome.piece):
            yield response.body[at : at + outcome.piece]
    elif response.body:
        yield response.body


def _request(request: httpx.Request, body: bytes, name: str) -> Request:
    raw, _, query = request.url.raw_path.decode("ascii").partition("?")
    return Request(
        method=request.method,
        path=unquote(raw),
        query=parse_qsl(query, keep_blank_values=True),
        headers={key.lower(): value for key, value in request.headers.items()},
        body=body,
        host=f"{request.url.scheme}://{request.url.netloc.decode('ascii')}",
        face=name,
    )
