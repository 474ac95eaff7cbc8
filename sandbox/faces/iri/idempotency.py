"""The store of idempotency keys: one request per key, user and operation, for a day."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from sandbox.faces.http import Request, Response
from sandbox.faces.iri.problems import Problem
from sandbox.facility import Facility

HEADER = "idempotency-key"
REPLY = "idempotency-key-reply"
_KEPT = 86_400 * 1_000_000


@dataclass(frozen=True, slots=True)
class _Kept:
    digest: str
    response: Response
    at: int


class KeyStore:
    """Answers a repeated request as the first one was. Where the work failed, the key is free again."""

    def __init__(self, facility: Facility, *, keeps: str) -> None:
        """`keeps`: yes, no or ignored, as in the profile."""
        self._facility, self._keeps = facility, keeps
        self._kept: dict[tuple[str, str, str], _Kept] = {}
        self._at_work: set[tuple[str, str, str]] = set()
        self._lock = threading.Lock()

    def once(self, request: Request, user: str, work: Callable[[], Response]) -> Response:
        """Do the work, unless it was done. Raises Problem."""
        key = request.headers.get(HEADER, "")
        if not key or self._keeps == "ignored":
            return work()
        self._fault(request)
        if self._keeps == "no":
            raise Problem(501, "Idempotency-Key is not supported: no idempotency store is configured")
        name = (user, f"{request.method} {request.path}", key)
        digest = hashlib.sha256(request.body).hexdigest()
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None and self._facility.now() - kept.at < _KEPT:
                if kept.digest != digest:
                    raise Problem(422, "this Idempotency-Key was used with another request body")
                return replace(kept.response, headers={**kept.response.headers, REPLY: "hit"})
            if name in self._at_work:
                raise Problem(409, "a request with this Idempotency-Key is in flight", headers={"retry_after": "2"})
            self._at_work.add(name)
        try:
            response = work()
            with self._lock:
                self._kept[name] = _Kept(digest, response, self._facility.now())
            return response
        finally:
            with self._lock:
                self._at_work.discard(name)

    def _fault(self, request: Request) -> None:
        fault = self._facility.faults.take("idempotency", request)
        if fault is None:
            return
        status = int(fault.get("answer", 409))
        texts = {
            409: "a request with this Idempotency-Key is in flight",
            422: "this Idempotency-Key was used with another request body",
            501: "Idempotency-Key is not supported: no idempotency store is configured",
        }
        raise Problem(
            status, texts.get(status, "Idempotency-Key"), headers={"retry_after": "2"} if status == 409 else {}
        )
