"""Whom a run's jobs name as their contact: said in its document, and asked for by every job's comment."""

from __future__ import annotations

import json
from collections import OrderedDict
from threading import Lock

from broker.store.base import Store

MOST = 4096
"""Runs whose contact is kept; one that was dropped is read again."""


class Contacts:
    """The contact of each run, read once from its document, which never changes. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._known: OrderedDict[str, str] = OrderedDict()

    def of(self, run_id: str) -> str:
        """Empty: its document names nobody. Raises StoreError."""
        with self._lock:
            if run_id in self._known:
                self._known.move_to_end(run_id)
                return self._known[run_id]
        contact = _contact_in(self._store.document(run_id) or "")
        with self._lock:
            self._known[run_id] = contact
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        return contact


def _contact_in(document: str) -> str:
    if '"contact"' not in document:  # most name nobody, and a document may be megabytes to parse
        return ""
    return str(json.loads(document).get("contact") or "")
