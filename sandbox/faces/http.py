"""Requests and responses as values, and what a face is: the same in this process and behind a socket."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. `path` is decoded and has no query; header names are in lower case."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    host: str = ""
    """Scheme and authority that the client used, for addresses in answers: `http://127.0.0.1:8701`."""
    face: str = ""
    """The name under which the server serves the face, for fault scripts: superfacility, iri, slurmrest, ..."""

    def first(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return next((value for key, value in self.query if key == name), default)

    def all(self, name: str) -> list[str]:
        """All values of a query parameter."""
        return [value for key, value in self.query if key == name]

    def form(self) -> list[tuple[str, str]]:
        """The body as a form, in order."""
        return parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True)

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body or b"null")

    @property
    def bearer(self) -> str:
        """The token of `Authorization: Bearer ...`; empty: none."""
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if kind.lower() == "bearer" else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer. `parts` instead of `body`: sent piece by piece, such as a watch that stays open."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    parts: Any = None
    """An iterator of bytes."""


def answer(value: object, status: int = 200, *, kind: str = "application/json", **headers: str) -> Response:
    """A JSON answer; header names with `_` for `-`."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    body = json.dumps(value, separators=(",", ":")).encode()
    return Response(status=status, headers={"content-type": kind, **named}, body=body)


class Face(Protocol):
    """One protocol over one facility. Knows no socket and no clock of its own; thread-safe."""

    def handle(self, request: Request) -> Response: ...
