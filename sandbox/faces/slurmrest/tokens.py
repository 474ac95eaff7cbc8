"""Tokens that a face knows, and whose requests they let in."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Times are µs; None: no end, no delay."""

    value: str
    user: str = "user"
    project: str = "project"
    until: int | None = None
    since: int | None = None
    once: bool = False
    writes: bool = True
    """False: `compute-ace-readonly`."""
    description: str = ""


class TokenBook:
    """Thread-safe."""

    def __init__(self, *tokens: Token) -> None:
        self._lock = threading.Lock()
        self._tokens = {token.value: token for token in tokens}
        self._used: set[str] = set()

    def add(self, token: Token) -> None:
        with self._lock:
            self._tokens[token.value] = token

    def expire(self, value: str, at: int) -> None:
        """Let it end then."""
        with self._lock:
            if value in self._tokens:
                self._tokens[value] = replace(self._tokens[value], until=at)

    def revoke(self, value: str) -> None:
        with self._lock:
            self._tokens.pop(value, None)

    def look(self, value: str, now: int) -> Token | None:
        """The token, if it is good now; a one-time token is used up by this."""
        with self._lock:
            found = self._tokens.get(value)
            if found is None or (found.until is not None and found.until <= now):
                return None
            if found.since is not None and found.since > now:
                return None
            if found.once:
                if value in self._used:
                    return None
                self._used.add(value)
            return found
