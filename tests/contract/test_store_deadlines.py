"""Deadlines in the store: a run is woken for them, they end with it, and the nearest goes first where room is short."""

from __future__ import annotations

from dataclasses import replace

from store_kit import RUN, apply, deciding, new_run, run_of

from broker.deadlines import DeadlineRow
from broker.store.base import Changes
from broker.store.sql import SqlStore


def dated(store: SqlStore, *rows: DeadlineRow) -> None:
    new = new_run([(), (0,)])
    store.create_run(replace(new, run=new.run._replace(deadlines=len(rows)), deadlines=rows))


def row(n: int = -1, *, at: int = 1000, due_at: int | None = 10) -> DeadlineRow:
    return DeadlineRow(RUN, n, at, 0, "continue", "open", 0, due_at)


def test_a_run_is_woken_when_its_deadline_is_to_be_looked_at(store: SqlStore) -> None:
    dated(store, row(due_at=500))
    lease = store.acquire(RUN, owner="me", ttl=60.0)
    assert lease is not None
    stages = [stage._replace(due_at=None) for stage in store.stages(RUN)]
    with store.deciding(lease, ttl=60.0) as tx:
        tx.apply(Changes(stages=stages), now=10)
    assert store.release(lease, due_at=None)
    assert run_of(store).due_at == 500
    assert store.due_runs(now=499, limit=10, resend_after=0.0) == []
    assert store.due_runs(now=500, limit=10, resend_after=0.0) == [RUN]


def test_a_decision_sees_those_that_are_due_with_the_work_that_is_left(store: SqlStore) -> None:
    dated(store, row(), row(1, due_at=99))
    with deciding(store) as tx:
        assert tx.deadlines(now=9).due == ()
        asked = tx.deadlines(now=10)
        assert [(one.n, one.state) for one in asked.due] == [(-1, "open")]
        assert [(work.n, work.path, work.site) for work in asked.works] == [(0, "s0", ""), (1, "s1", "")]
        assert asked.needs == {1: [0]}


def test_what_was_decided_of_one_is_kept_and_trouble_has_all_looked_at(store: SqlStore) -> None:
    dated(store, row(), row(1, due_at=99))
    apply(store, Changes(deadlines=[row()._replace(state="at_risk", episodes=1, due_at=50)]))
    assert [(one.state, one.episodes, one.due_at) for one in store.deadlines(RUN)] == [
        ("at_risk", 1, 50),
        ("open", 0, 99),
    ]
    apply(store, Changes(hasten_deadlines=True, wake_stages=[0]), now=20)
    assert [one.due_at for one in store.deadlines(RUN)] == [20, 20]


def test_a_deadline_of_a_stage_is_begun_once(store: SqlStore) -> None:
    dated(store, row())
    for at in (1000, 2000):
        apply(store, Changes(new_deadlines=[row(1, at=at)]))
    assert [one.at for one in store.deadlines(RUN)] == [1000, 1000]


def test_deadlines_end_with_their_run_and_a_missed_one_stays_so(store: SqlStore) -> None:
    dated(store, row(), row(1))
    apply(store, Changes(deadlines=[row(1)._replace(state="missed", due_at=None)]))
    apply(store, Changes(run=run_of(store)._replace(state="RUNNING")))
    apply(store, Changes(run=run_of(store)._replace(state="CANCELED", ended_at=20)))
    assert [(one.state, one.due_at) for one in store.deadlines(RUN)] == [("over", None), ("missed", None)]


def test_of_runs_that_want_room_the_nearest_deadline_is_woken_first(store: SqlStore) -> None:
    for name, deadline_at, wants in (("a", None, 1), ("b", 900, 1), ("c", 500, 1), ("d", 100, 0)):
        store.create_run(new_run(run_id=name, deadline_at=deadline_at, wants=wants))
    assert store.due_runs(now=10, limit=10, resend_after=0.0) == ["c", "b", "a", "d"]
