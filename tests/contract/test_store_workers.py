"""Heartbeats: one row for each process, whose progress never goes back."""

from __future__ import annotations

from typing import Any

from broker.store.base import WorkerRow
from broker.store.sql import SqlStore


def beat(name: str = "7@here:boot:1", **said: Any) -> WorkerRow:
    return WorkerRow(name, "worker", "here", '["runs"]', 10, 20, None, "{}")._replace(**said)


def test_a_heartbeat_is_kept_whole_and_the_next_one_replaces_it(store: SqlStore) -> None:
    store.heartbeat(beat())
    later = beat(seen_at=30, queues='["runs","sites"]', detail='{"rss":5}')
    store.heartbeat(later)
    assert store.workers() == [later]


def test_progress_never_goes_back_and_saying_nothing_leaves_it(store: SqlStore) -> None:
    for said, kept in [(None, None), (40, 40), (None, 40), (35, 40), (41, 41)]:
        store.heartbeat(beat(progress_at=said))
        assert store.workers()[0].progress_at == kept


def test_workers_come_by_kind_and_name(store: SqlStore) -> None:
    for kind, name in [("worker", "b"), ("serve", "z"), ("worker", "a"), ("beat", "y")]:
        store.heartbeat(beat(name, kind=kind))
    assert [row.name for row in store.workers()] == ["y", "z", "a", "b"]


def test_the_long_silent_are_forgotten_and_counted(store: SqlStore) -> None:
    for name, seen in [("a", 10), ("b", 20), ("c", 30)]:
        store.heartbeat(beat(name, seen_at=seen))
    assert store.forget_workers(20) == 1
    assert [row.name for row in store.workers()] == ["b", "c"]
    assert store.forget_workers(20) == 0
