"""Scope strings of Globus Auth: `root[dependent *optional]`, read with limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

TRANSFER = "transfer.api.globus.org"
AUTH = "auth.globus.org"
TRANSFER_ALL = f"urn:globus:auth:scope:{TRANSFER}:all"
OPENID = frozenset({"openid", "profile", "email"})

_LONGEST = 20_000
_DEEPEST = 4
_URN = re.compile(r"urn:globus:auth:scope:([a-z0-9.-]+):[a-z0-9_]+")
_URL = re.compile(r"https://auth\.globus\.org/scopes/([0-9a-f-]{36}|[a-z0-9.-]+)/([a-z0-9_]+)")
_WORD = re.compile(r"\s+|\[|\]|\*|[^\s\[\]*]+")


class BadScope(ValueError):
    """It cannot be read, or nobody knows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A scope with those that depend on it."""

    name: str
    below: Mapping[str, Scope] = field(default_factory=dict)

    @property
    def server(self) -> str:
        """The resource server that it is for. Raises BadScope."""
        if self.name in OPENID:
            return AUTH
        found = _URN.fullmatch(self.name) or _URL.fullmatch(self.name)
        if found is None:
            raise BadScope(self.name)
        return found[1]

    def has(self, *names: str) -> bool:
        """Is there such a chain of dependents?"""
        return not names or (names[0] in self.below and self.below[names[0]].has(*names[1:]))


def collection_of(name: str) -> str:
    """The id of the collection whose `data_access` or `https` that scope is; empty: it is another one."""
    found = _URL.fullmatch(name)
    return found[1] if found is not None and found[2] in ("data_access", "https") else ""


def read(text: str) -> dict[str, Scope]:
    """Scopes by name; the same root twice is one. Raises BadScope."""
    if len(text) > _LONGEST:
        raise BadScope("too long")
    words = [word for word in _WORD.findall(text) if word.strip() and word != "*"]
    found, rest = _level(words, 0)
    if rest:
        raise BadScope(text[:200])
    return found


def _level(words: list[str], depth: int) -> tuple[dict[str, Scope], list[str]]:
    if depth > _DEEPEST:
        raise BadScope("too deep")
    found: dict[str, Scope] = {}
    while words and words[0] != "]":
        name, words = words[0], words[1:]
        if name == "[":
            raise BadScope("a bracket without a scope")
        below: dict[str, Scope] = dict(found[name].below) if name in found else {}
        if words[:1] == ["["]:
            more, words = _level(words[1:], depth + 1)
            if words[:1] != ["]"]:
                raise BadScope("a bracket is not closed")
            below |= more
            words = words[1:]
        found[name] = Scope(name=name, below=below)
    return found, words
