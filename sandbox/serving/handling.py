"""What happens to a request before and after its face: the faults that every protocol suffers in the same way."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from connectors.errors import SiteUnreachable
from sandbox.faces.http import Face, Request, Response, answer
from sandbox.facility import FaultScript

log = logging.getLogger(__name__)

_REASONS = {429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 504: "Gateway Time-out"}
_LONG = 64 << 20
_PIECE = b" " * (1 << 16)
_HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Please sign in</h1></body></html>\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the client gets. Seconds are real ones."""

    response: Response | None
    """None: the connection ends without an answer."""
    delay: float = 0.0
    """Before the first byte."""
    pause: float = 0.0
    """Between two pieces of the body."""
    piece: int = 0
    """Bytes of a piece; 0: all at once."""
    cut: int | None = None
    """The connection ends after so many bytes of the body, which is announced whole."""


def attend(face: Face, request: Request, faults: FaultScript) -> Outcome:
    """Let the face answer, and let go wrong what the script says."""
    if faults.take("request_lost", request) is not None:
        return Outcome(response=None)
    for name, spoil in _INSTEAD.items():
        params = faults.take(name, request)
        if params is not None:
            if params.get("handled", False):
                _asked(face, request)
            return Outcome(response=spoil(params))
    delay = faults.take("delay", request)
    if delay is not None and not delay.get("handled", True):
        return Outcome(response=_error(503, "the request was given up"), delay=float(delay.get("delay", 60)))
    lost = faults.take("reply_lost", request)
    drip = faults.take("drip", request)
    truncated = faults.take("truncated", request)
    response = _asked(face, request)
    if lost is not None:
        return Outcome(response=None)
    outcome = Outcome(response=response, delay=0.0 if delay is None else float(delay.get("delay", 60)))
    if drip is not None:
        outcome = replace(outcome, pause=float(drip.get("pause", 1)), piece=max(1, int(drip.get("piece", 1))))
    if truncated is not None:
        outcome = replace(outcome, cut=int(truncated.get("bytes", 10)))
    return outcome


def _asked(face: Face, request: Request) -> Response:
    try:
        return face.handle(request)
    except SiteUnreachable as error:
        return _error(503, str(error))
    except Exception:
        log.exception("the face broke off: %s %s", request.method, request.path)
        return _error(500, "Internal Server Error")


def _error(status: int, text: str) -> Response:
    return answer({"detail": text, "status": status, "title": text}, status)


def _status(params: Mapping[str, Any]) -> Response:
    code = int(params.get("code", 503))
    text = str(
        params.get("text", {429: "Too Many Requests", 502: "Bad Gateway", 504: "Gateway Time-out"}.get(code, ""))
    )
    response = _error(code, text or "Service Unavailable")
    headers = dict(response.headers)
    if "kind" in params:
        headers["content-type"] = str(params["kind"])
        response = replace(response, body=text.encode())
    if "retry_after" in params:
        headers["retry-after"] = str(params["retry_after"])
    return replace(response, headers=headers)


def _unauthorized(_: Mapping[str, Any]) -> Response:
    response = _error(401, "The token has expired")
    return replace(response, headers={**response.headers, "www-authenticate": 'Bearer error="invalid_token"'})


def _forbidden(_: Mapping[str, Any]) -> Response:
    return _error(403, "This address may not use this client")


def _html(params: Mapping[str, Any]) -> Response:
    return Response(status=int(params.get("code", 200)), headers={"content-type": "text/html"}, body=_HTML)


def _garbage(params: Mapping[str, Any]) -> Response:
    body = str(params.get("text", '{"half": [1, 2')).encode()
    kind = str(params.get("kind", "application/json"))
    return Response(status=int(params.get("code", 200)), headers={"content-type": kind}, body=body)


def _huge(params: Mapping[str, Any]) -> Response:
    return Response(headers={"content-type": "application/json"}, parts=_spaces(int(params.get("bytes", _LONG))))


def _spaces(count: int) -> Iterator[bytes]:
    yield b'{"padding": "'
    for _ in range(count // len(_PIECE)):
        yield _PIECE
    yield _PIECE[: count % len(_PIECE)] + b'"}'


def _redirect(params: Mapping[str, Any]) -> Response:
    to = str(params.get("to", "http://169.254.169.254/latest/meta-data/"))
    return Response(status=int(params.get("code", 302)), headers={"location": to})


_INSTEAD = {
    "unauthorized": _unauthorized,
    "forbidden": _forbidden,
    "status": _status,
    "redirect": _redirect,
    "html": _html,
    "garbage": _garbage,
    "huge": _huge,
}
"""Answers that are not the face's. With `handled: true` the face has done what it was asked to, all the same."""
