"""Errors as `application/problem+json` (RFC 9457): what went wrong, what to do, never a secret or an internal."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import JSONResponse

from broker.errors import BrokerError, KeyInUse, NotFound, RefusedByPolicy, Unwritable, UsageError
from broker.spec import DocumentError
from broker.spec.errors import MOST_SHOWN
from broker.store.base import StoreBusy, StoreError, StoreFull, StoreGone
from broker.views import clean_text

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_BUSY = 2
"""Seconds until a store that was busy or gone is worth another try."""

TITLES: Mapping[str, tuple[int, str]] = {
    "malformed": (400, "The request cannot be read"),
    "unauthorized": (401, "The installation's token is needed"),
    "refused": (403, "Refused by policy"),
    "origin": (403, "Not from a browser"),
    "host": (403, "The Host header names no loopback address"),
    "not-found": (404, "Not found"),
    "method": (405, "This cannot be done here"),
    "slow": (408, "The request took too long to arrive"),
    "key-in-use": (409, "The key belongs to another run"),
    "not-possible": (409, "Not possible as things stand"),
    "too-large": (413, "The request is too large"),
    "media-type": (415, "Send JSON"),
    "invalid": (422, "The request is not valid"),
    "document": (422, "The document cannot be used"),
    "headers": (431, "The request's headers are too large"),
    "internal": (500, "Internal error"),
    "busy": (503, "The store does not answer now"),
    "streams": (503, "Too many streams of events are open"),
    "full": (507, "The store is full"),
}
"""Every kind of problem: its status and its title. Its `type` is `urn:crossfade:problem:KIND`."""

TYPE = "urn:crossfade:problem:"


class Refusal(Exception):
    """Raised by whoever notices; becomes the answer."""

    def __init__(self, kind: str, detail: str = "", **more: Any) -> None:
        super().__init__(kind)
        self.kind, self.detail, self.more = kind, detail, more


def problem(kind: str, detail: str = "", *, headers: Mapping[str, str] | None = None, **more: object) -> JSONResponse:
    """The answer for a problem of this kind."""
    status, title = TITLES[kind]
    body: dict[str, Any] = {"type": f"{TYPE}{kind}", "title": title, "status": status}
    if detail:
        body["detail"] = clean_text(detail)
    body.update((key, value) for key, value in more.items() if value not in ("", None))
    return JSONResponse(body, status, headers, MEDIA_TYPE)


def answer_for(error: Exception) -> JSONResponse | None:
    """The answer for what a use case raised; None: nobody expected it."""
    match error:
        case Refusal():
            return problem(error.kind, error.detail, **error.more)
        case DocumentError():
            return problem("document", f"{_count(error.problems)} in the document", problems=_problems(error))
        case NotFound():
            return problem("not-found")  # the same for all that is not there
        case RefusedByPolicy():
            return problem("refused", str(error), help=error.help)
        case KeyInUse():
            return problem(
                "key-in-use", str(error), help='another key, or "again": true for a new run', run=error.run_id
            )
        case UsageError():
            return problem("not-possible", str(error), help=error.help)
        case StoreFull() | Unwritable():
            _told(error)
            return problem("full", "nothing was kept", help="make room, then send it again")
        case StoreError():
            _told(error)
            detail = "the database failed; nothing was answered"
            if isinstance(error, StoreGone):
                detail = "the database does not answer; whether what was sent was kept is not known"
            elif isinstance(error, StoreBusy):
                detail = "others are writing; nothing was kept"
            return problem("busy", detail, headers={"Retry-After": str(RETRY_BUSY)}, help="send it again")
        case BrokerError():
            return problem("not-possible", str(error), help=error.help)
    return None


def _problems(error: DocumentError) -> Sequence[Mapping[str, object]]:
    return [
        {"where": p.where, "message": p.message, "cure": p.cure, "kind": p.kind, "line": p.line, "column": p.column}
        for p in error.problems[:MOST_SHOWN]
    ]


def _count(problems: Sequence[object]) -> str:
    return "1 problem" if len(problems) == 1 else f"{len(problems)} problems"


def _told(error: Exception) -> None:
    log.warning("%s", " ".join(clean_text(str(error)).split()))
