"""What the player asks the store at every turn, asked again only after a commit: nothing can have changed before."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from broker.store.base import RunRow
from broker.store.sql import SqlStore


class Glance:
    """Answers of one store, kept until somebody commits."""

    def __init__(self, store: SqlStore, sites: Collection[str]) -> None:
        self._store, self._sites = store, sites
        self._known: dict[str, Any] = {}
        self._commits = -1

    def watched(self) -> list[str]:
        """Sites where something of ours is, or which do not answer: somebody is to look at them."""
        return self._kept("watched", self._watched)

    def next_poll(self, name: str) -> int | None:
        """When somebody is to look at that site, where processes take turns."""
        rows = self._kept("sites", lambda: {row.site: row for row in self._store.sites()})
        return rows[name].next_poll_at

    def next_due(self) -> int | None:
        """When the store wants somebody to wake up."""
        return self._kept("next_due", self._store.next_due)

    def run(self, run_id: str) -> RunRow:
        return self._kept(run_id, lambda: self._store.run(run_id))

    def pending(self, run_id: str) -> bool:
        """Is any effect of the run still to be performed?"""
        return self._kept(
            f"pending {run_id}", lambda: any(effect.state == "pending" for effect in self._store.effects(run_id))
        )

    def _watched(self) -> list[str]:
        silent = {row.site for row in self._store.sites() if row.cannot_ask_since is not None}
        return [name for name in self._sites if name in silent or self._store.open_attempts(name)]

    def _kept(self, what: str, ask: Callable[[], Any]) -> Any:
        if self._commits != self._store.counts.commits:
            self._known.clear()
            self._commits = self._store.counts.commits
        if what not in self._known:
            self._known[what] = ask()
        return self._known[what]
