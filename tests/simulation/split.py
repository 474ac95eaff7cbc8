"""A store whose decisions read in one transaction and write in another, as over a server without row locks.

SQLite keeps a decision's snapshot and its writes in one exclusive transaction, and that alone keeps two deciders
apart: its compare-and-set is never put to the test. Here others may go between the two, so that nothing but the
guards (lease token, row versions, unique keys) keeps them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from broker.store import wake
from broker.store.base import Changes, Lease, Snapshot
from broker.store.sql import SqlStore


class SplitStore:
    """A SqlStore with split decisions; everything else is the store's own."""

    def __init__(self, store: SqlStore, between: Callable[[], None]) -> None:
        """`between` is called between snapshot and write: others go on, time passes."""
        self._store, self._between = store, between

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def deciding(self, lease: Lease, *, ttl: float) -> Iterator[SplitTx]:
        with self._store.deciding(lease, ttl=ttl):
            pass  # raises LeaseLost, as the whole one does at entry
        yield SplitTx(self._store, lease, ttl, self._between)


class SplitTx:
    """Implements `DecisionTx`, each verb in a transaction of its own."""

    def __init__(self, store: SqlStore, lease: Lease, ttl: float, between: Callable[[], None]) -> None:
        self._store, self._lease, self._ttl, self._between = store, lease, ttl, between
        self._commits = 0

    def snapshot(self, **said: Any) -> Snapshot:
        with self._store.deciding(self._lease, ttl=self._ttl) as tx:
            found = tx.snapshot(**said)
        self._commits = self._store.counts.commits
        return found

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        """Whatever else is read, too."""

        def read(*args: Any, **said: Any) -> Any:
            with self._store.deciding(self._lease, ttl=self._ttl) as tx:
                return getattr(tx, verb)(*args, **said)

        return read

    def apply(self, changes: Changes, *, now: int) -> None:
        self._between()
        with self._store.deciding(self._lease, ttl=self._ttl) as tx:
            tx.apply(changes, now=now)
            if self._store.counts.commits != self._commits:
                # a hint that came between would be overwritten: a real store's lock keeps it, so this does
                stages = [(row.run_id, row.n) for row in changes.stages]
                wake.hint(tx._tx, stages, now=now)
