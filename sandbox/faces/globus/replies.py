"""Answers of Globus Transfer: its error document, and refusals as exceptions."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sandbox.faces.http import Request, Response, answer

Document = dict[str, Any]
_LETTERS = string.ascii_letters + string.digits


class Denied(Exception):
    """No, in Globus' shape; `more` are keys beside the usual four."""

    def __init__(self, code: str, text: str, status: int, more: Mapping[str, object] | None = None) -> None:
        super().__init__(text)
        self.code, self.status, self.more = code, status, dict(more or {})


def refusal(denied: Denied, request: Request) -> Response:
    """As the service has it."""
    document = {
        "code": denied.code,
        "message": str(denied),
        "request_id": request_id(),
        "resource": request.path,
        **denied.more,
    }
    return answer(document, denied.status)


def result(request: Request, code: str, text: str, *, kind: str = "result", status: int = 200) -> Response:
    """Something was done."""
    document = {
        "DATA_TYPE": kind,
        "code": code,
        "message": text,
        "request_id": request_id(),
        "resource": request.path,
    }
    return answer(document, status)


def request_id() -> str:
    """Nine letters."""
    return "".join(secrets.choice(_LETTERS) for _ in range(9))


def whole(request: Request, name: str, default: int, *, most: int) -> int:
    """A number of the query. Raises Denied."""
    text = request.first(name, str(default))
    if not text.isdecimal() or int(text) > most:
        raise Denied("ClientError.BadRequest", f"{name} must be a number up to {most}", 400)
    return int(text)


def flag(request: Request, name: str, *, default: bool) -> bool:
    """Yes or no, as the clients of the field write it."""
    return request.first(name, "1" if default else "0").lower() in ("1", "true", "yes")


def iso(at: int | None) -> str | None:
    """µs as the service writes times."""
    return None if at is None else datetime.fromtimestamp(at // 1_000_000, UTC).isoformat()
