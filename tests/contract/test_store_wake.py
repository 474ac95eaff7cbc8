"""Whose turn it is: what is due, who is told, and who is woken when room comes free."""

from __future__ import annotations

import pytest
from store_kit import (
    RUN,
    apply,
    attempt_row,
    effect_row,
    new_run,
    quiet,
    run_of,
    stage_of,
    stage_row,
)

from broker.clock import SECOND, VirtualClock
from broker.store.base import Changes, CommandRow, Sightings
from broker.store.sql import SqlStore


def due(store: SqlStore, *, limit: int = 99, resend_after: float = 5.0) -> list[str]:
    return list(store.due_runs(now=store.now(), limit=limit, resend_after=resend_after))


def test_due_runs_are_told_oldest_first_and_not_again_at_once(store: SqlStore, clock: VirtualClock) -> None:
    for run_id, at in (("b", 2), ("a", 1), ("c", None), ("d", 10**12)):
        store.create_run(new_run(run_id=run_id, due_at=at))
    assert due(store, limit=1) == ["a"]
    assert due(store) == ["b"]
    assert due(store) == []
    clock.advance(5)
    assert due(store) == ["a", "b"]


def test_a_wake_up_that_arrived_need_not_wait_to_be_sent_again(store: SqlStore) -> None:
    store.create_run(new_run())
    assert due(store) == [RUN]
    lease = store.acquire(RUN, owner="me", ttl=10)
    assert lease
    store.release(lease, due_at=store.now())
    assert due(store) == [RUN]


def test_a_run_that_somebody_decides_for_is_not_told_until_its_lease_lapses(
    store: SqlStore, clock: VirtualClock
) -> None:
    store.create_run(new_run())
    store.acquire(RUN, owner="me", ttl=10)
    assert due(store) == []
    clock.advance(10)
    assert due(store) == [RUN]


def test_a_hint_written_by_a_decision_survives_a_broker_that_never_gave_the_lease_back(
    store: SqlStore, clock: VirtualClock
) -> None:
    store.create_run(new_run(stages=[stage_row(0)], due_at=None))
    later = store.now() + 40 * SECOND
    apply(store, Changes(stages=[stage_of(store, 0)._replace(due_at=later)]))
    clock.advance(39)
    assert due(store) == []
    clock.advance(1)
    assert due(store) == [RUN]


def test_an_effect_whose_performer_died_makes_its_run_due_when_the_claim_lapses(
    store: SqlStore, clock: VirtualClock
) -> None:
    store.create_run(new_run(stages=[stage_row(0)], due_at=None))
    lapses = store.now() + 40 * SECOND
    apply(store, Changes(effects=[effect_row("e", claim="dead", claim_until=lapses)]))
    lease = store.acquire(RUN, owner="me", ttl=10)
    assert lease
    store.release(lease, due_at=None)
    assert run_of(store).due_at == lapses
    assert store.next_due() == lapses
    clock.advance(40)
    assert due(store) == [RUN]


def test_the_next_time_is_the_least_of_all_runs_and_effects(store: SqlStore) -> None:
    assert store.next_due() is None
    for run_id, at in (("a", 500), ("b", 300), ("c", None)):
        store.create_run(new_run(run_id=run_id, due_at=at))
    assert store.next_due() == 300
    apply(store, Changes(effects=[effect_row("e", run_id="a", due_at=200)]), run_id="a")
    assert store.next_due() == 200


def test_a_leased_run_is_not_next_before_its_lease_lapses(store: SqlStore) -> None:
    store.create_run(new_run(due_at=1))
    store.acquire(RUN, owner="me", ttl=10)
    assert store.next_due() == store.now() + 10 * SECOND


def test_places_that_came_free_wake_stages_that_wait_for_room_oldest_first(store: SqlStore) -> None:
    rows = [
        stage_row(0, state="READY", due_at=900),
        stage_row(1, state="READY", due_at=800),
        stage_row(2, state="ACTIVE", due_at=700),
        stage_row(3, state="READY", due_at=850, not_before=820),
        stage_row(4, state="READY", due_at=990),
    ]
    store.create_run(new_run(stages=rows, wants=1, due_at=None))
    apply(store, Changes(wake_ready=2), now=10)
    assert [stage_of(store, n).due_at for n in range(5)] == [10, 10, 700, 850, 990]


def test_places_that_came_free_wake_other_runs_that_want_them(store: SqlStore) -> None:
    for at, (run_id, wants) in enumerate([(RUN, 0), ("old", 1), ("new", 1), ("content", 0)]):
        row = stage_row(0, run_id, state="READY")
        store.create_run(new_run(run_id=run_id, stages=[row], wants=wants, due_at=None, created_at=at))
    apply(store, Changes(wake_ready=1), now=10)
    assert [run_of(store, name).due_at for name in ("old", "new", "content")] == [10, None, None]
    apply(store, Changes(wake_ready=5), now=20)
    assert [run_of(store, name).due_at for name in ("old", "new", "content")] == [10, 20, None]


def test_waking_all_wakes_every_stage_that_is_not_final(store: SqlStore) -> None:
    states = ["WAITING", "READY", "ACTIVE", "AWAITING_DECISION", "SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"]
    store.create_run(new_run(stages=[stage_row(n, state=state) for n, state in enumerate(states)]))
    apply(store, Changes(wake_all=True), now=33)
    assert [stage_of(store, n).due_at for n in range(8)] == [33] * 4 + [None] * 4


def test_a_sites_mode_wakes_who_runs_there_and_who_waits_for_room(store: SqlStore) -> None:
    store.create_run(new_run(stages=[stage_row(0), stage_row(1)], due_at=None))
    store.create_run(new_run(run_id="wanting", stages=[stage_row(0, "wanting")], due_at=None, wants=1))
    apply(store, Changes(new_attempts=[attempt_row(0)]))
    quiet(store, 0, 1)
    store.set_site_mode("nersc", mode="drained", by="ann", reason="works")
    now = store.now()
    assert [stage_of(store, n).due_at for n in (0, 1)] == [now, None]
    assert run_of(store, "wanting").due_at == now
    (site,) = store.sites()
    assert (site.mode, site.mode_by, site.mode_reason, site.mode_at) == ("drained", "ann", "works", now)


@pytest.mark.parametrize("what", ["due_runs", "next_due", "claim_effects", "snapshot", "open_attempts"])
def test_many_finished_runs_cost_a_look_nothing(store: SqlStore, what: str) -> None:
    """Asked of SQLite's own plan: no table of runs, stages, attempts or effects is read from end to end."""
    if not store._database.sqlite:
        pytest.skip("plans are told differently elsewhere")
    asked: list[str] = []
    store.create_run(new_run())
    with store._database.writing() as tx:
        connection = tx._cursor.connection
    connection.set_trace_callback(asked.append)
    if what == "due_runs":
        due(store)
    elif what == "next_due":
        store.next_due()
    elif what == "claim_effects":
        store.claim_effects(claim="me", ttl=1, now=1, limit=9, run_id=RUN)
        store.claim_effects(claim="me", ttl=1, now=1, limit=9)
    elif what == "open_attempts":
        store.open_attempts("nersc")
        store.record(Sightings(wake_sites=["nersc"]), now=1)
    else:
        store.add_command(CommandRow("c", RUN, "", "hold", "{}", "ann", "", 1, None, ""))
        lease = store.acquire(RUN, owner="me", ttl=9)
        assert lease
        with store.deciding(lease, ttl=9) as tx:
            tx.snapshot(now=1, limit=9, room=lambda _load: 9)
            tx.apply(Changes(wake_ready=9, wake_all=True), now=1)
        store.release(lease, due_at=None)
    connection.set_trace_callback(None)
    plans = {
        detail
        for statement in set(asked)
        if statement.startswith(("SELECT", "UPDATE"))
        for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
    }
    assert any("SEARCH" in detail for detail in plans)
    full = {d for d in plans if d.startswith("SCAN") and "USING" not in d and d.split()[1] not in _SMALL}
    assert full == set()


_SMALL = {"site", "hints", "CONSTANT"}
