"""Errors as RFC 9457 problems, and the checks that lead to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sandbox.faces.http import Request, Response, answer

_TITLES = {
    400: ("invalid-parameter", "Invalid parameter"),
    401: ("unauthorized", "Unauthorized"),
    403: ("forbidden", "Forbidden"),
    404: ("not-found", "Not Found"),
    405: ("generic-error", "Method Not Allowed"),
    408: ("generic-error", "Request Timeout"),
    409: ("generic-error", "Conflict"),
    413: ("generic-error", "Content Too Large"),
    422: ("invalid-parameter", "Invalid parameter"),
    501: ("generic-error", "Not Implemented"),
    503: ("generic-error", "Service Unavailable"),
    504: ("generic-error", "Gateway Timeout"),
}


class Problem(Exception):
    """An answer that is an error."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        invalid: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.invalid, self.headers = status, detail, invalid, headers or {}

    def response(self, request: Request) -> Response:
        kind, title = _TITLES.get(self.status, ("generic-error", "Error"))
        body: dict[str, Any] = {
            "type": f"{request.host or 'http://localhost'}/problems/{kind}",
            "title": title,
            "status": self.status,
            "detail": self.detail,
            "instance": f"{request.host or 'http://localhost'}{request.path}",
        }
        if self.invalid:
            body["invalid_params"] = [{"name": name, "reason": reason} for name, reason in self.invalid]
        return answer(body, self.status, kind="application/problem+json", **self.headers)


def known_parameters(request: Request, names: Collection[str]) -> None:
    """Raises Problem for a query parameter that the route does not have."""
    strange = sorted({name for name, _ in request.query} - set(names))
    if strange:
        raise Problem(422, "unknown query parameter", invalid=[(name, "extra parameter") for name in strange])


def whole(request: Request, name: str, default: int, *, most: int | None = None) -> int:
    """A number from the query. Raises Problem."""
    text = request.first(name)
    if not text:
        return default
    if not text.isdecimal() or (most is not None and int(text) > most):
        raise Problem(422, f"{name} is out of range", invalid=[(name, "not a number in range")])
    return int(text)


def flag(request: Request, name: str, default: bool = False) -> bool:
    """A truth value from the query. Raises Problem."""
    text = request.first(name).lower()
    if not text:
        return default
    if text not in {"true", "false", "1", "0"}:
        raise Problem(422, f"{name} is no truth value", invalid=[(name, "not a boolean")])
    return text in {"true", "1"}


def document(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises Problem."""
    try:
        found = request.json()
    except (ValueError, RecursionError) as error:
        raise Problem(422, "the body is no JSON") from error
    if not isinstance(found, dict):
        raise Problem(422, "the body is no JSON object")
    return found
