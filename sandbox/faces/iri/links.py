"""Addresses and the members that every object has, in either version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox.faces.http import Request


@dataclass(frozen=True, slots=True)
class Links:
    """What a request says of addresses: those in its answer begin as it was asked."""

    request: Request
    version: str

    def to(self, path: str) -> str:
        return f"{self.request.host or 'http://localhost'}/api/{self.version}/{path}"

    def thing(self, path: str, **members: Any) -> dict[str, Any]:
        """An object of its own, at this path; v2 adds its own members."""
        more: Mapping[str, Any] = {}
        if self.version == "v2":
            more = {"attributes": {}, "_links": {"self": {"href": self.to(path)}}}
        return {**members, "self_uri": self.to(path), **more}


def iso(at: int) -> str:
    """µs as ISO 8601, UTC."""
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat()


def micros(text: str) -> int | None:
    """The other way; None: it is no time with a zone."""
    try:
        when = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        return None
    return round(when.timestamp() * 1e6) if when.tzinfo is not None else None
