"""The two questions for our Jobs and pods: which are there, and what has happened since. Both answers are foreign:
bounded, checked, and cut down to what states are read from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from connectors.errors import BadReply, SiteError
from connectors.http import DEADLINE, Http, Refusal, Reply
from connectors.kubernetes.manifest import KEY_LABEL, MANAGED, OWNER, owner_label
from connectors.kubernetes.states import mapping, text

NAMED = 200
"""So many keys are asked for by name; of more, all that are ours are listed."""
LIMIT = 256 << 20
"""Bytes of a list."""
STREAM = 32 << 20
"""Bytes of what one watch tells."""
ANSWER = 10.0
"""Seconds that a watch may last beyond its own time."""
_WORDS = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK"})
_VERSION = re.compile(r"[0-9]{1,20}")
_BEGINNING = b'{"type":'
"""Of an event, as clusters write it."""
_GONE = 410


class Lost(SiteError):
    """The watch cannot go on from where it was: only a list helps."""

    transient = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """All that are there now."""

    items: Sequence[Mapping[str, Any]]
    version: int | None
    """From where on a watch tells what happens next; None: from nowhere that we could compare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened; `item` of a BOOKMARK is empty but for its version."""

    word: str
    item: Mapping[str, Any]
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Asks for the objects of one installation, by its labels."""

    http: Http
    site: str
    owner: str

    def listed(self, path: str, names: str = "", *, deadline: float = DEADLINE) -> Listed:
        """All of them, in one answer: without `limit` the cluster leaves nothing out, and without a version it answers
        from what was written last. `names`: keys with commas between."""
        asked = {"labelSelector": self._selector(names)}
        document = self.http.get(path, params=asked, limit=LIMIT, deadline=deadline).mapping()
        items, meta = document.get("items"), mapping(document.get("metadata"))
        if items is None and "items" in document:
            items = []  # how Go tells an empty list
        if not isinstance(items, list):
            raise BadReply(f"{self.site}: a list without items", site=self.site)
        if text(meta.get("continue")):
            raise BadReply(f"{self.site}: the list is not whole", site=self.site)
        return Listed(items=[pared(item) for item in items], version=_number(meta.get("resourceVersion")))

    def happened(self, path: str, version: int, *, seconds: int, deadline: float) -> Sequence[Event]:
        """What has happened since that version, and while the cluster keeps the watch open.

        The answer is believed when the cluster itself has ended it. Raises Lost where the watch cannot go on, BadReply
        for what is no watch at all.
        """
        asked = {
            "labelSelector": self._selector(""),
            "watch": "1",
            "resourceVersion": str(version),
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        try:
            reply = self.http.get(path, params=asked, limit=STREAM, deadline=min(deadline, seconds + ANSWER))
        except Refusal as error:
            if error.status == _GONE:
                raise Lost(str(error), site=self.site) from error
            raise
        *lines, rest = reply.content.split(b"\n")
        events = [self._event(replace(reply, content=line)) for line in lines if line.strip()]
        if rest.startswith(_BEGINNING[: len(rest)]) and rest:
            raise Lost(f"{self.site}: the watch ended within an event", site=self.site)
        if rest.strip():
            raise BadReply(f"{self.site}: the watch tells what is no event", site=self.site)
        return events

    def _event(self, line: Reply) -> Event:
        document = line.mapping()
        word, item = text(document.get("type")), mapping(document.get("object"))
        if word == "ERROR":
            raise Lost(f"{self.site}: the watch is over ({text(item.get('reason'))[:40]!r})", site=self.site)
        found = _number(mapping(item.get("metadata")).get("resourceVersion"))
        if word not in _WORDS or found is None or (word != "BOOKMARK" and not uid_of(item)):
            raise BadReply(f"{self.site}: the watch tells what is no event", site=self.site)
        return Event(word=word, item=pared(item), version=found)

    def _selector(self, names: str) -> str:
        ours = f"{MANAGED}=crossfade,{OWNER}={owner_label(self.owner)}"
        return f"{ours},{KEY_LABEL} in ({names})" if names else ours


def pared(item: Any) -> Mapping[str, Any]:
    """As much of an object as its state is read from; a thousand whole ones are megabytes."""
    meta, spec = mapping(mapping(item).get("metadata")), mapping(mapping(item).get("spec"))
    kept = {name: value for name, value in meta.items() if name != "managedFields"}
    suspend = {"suspend": spec["suspend"]} if "suspend" in spec else {}
    return {"metadata": kept, "spec": suspend, "status": mapping(item).get("status")}


def key_of(item: Any) -> str:
    """Ours, from its label; empty: it has none."""
    return text(mapping(mapping(mapping(item).get("metadata")).get("labels")).get(KEY_LABEL))


def uid_of(item: Any) -> str:
    """The cluster's own name for this very object."""
    return text(mapping(mapping(item).get("metadata")).get("uid"))


def version_of(item: Any) -> int:
    """When it was written last; 0: it does not say."""
    return _number(mapping(mapping(item).get("metadata")).get("resourceVersion")) or 0


def _number(value: object) -> int | None:
    """Versions are compared: of what etcd keeps they grow. One that is no number is not gone on from."""
    return int(value) if isinstance(value, str) and _VERSION.fullmatch(value) else None
