"""Decision transactions: what they see, what they write, and that they write all or nothing."""

from __future__ import annotations

import pytest
from store_kit import (
    RUN,
    apply,
    attempt_row,
    checkpoint_row,
    command_row,
    deciding,
    effect_row,
    look,
    new_run,
    product_row,
    run_of,
    stage_of,
    stage_row,
)

from broker.clock import VirtualClock
from broker.store.base import AttemptSeen, Changes, NewEvent, Sightings, StaleRow, StoreError
from broker.store.sql import SqlStore

# -- what is seen ------------------------------------------------------------------------------------------


def test_a_snapshot_holds_what_is_due_oldest_first(store: SqlStore) -> None:
    due = {0: 5, 1: 3, 2: None, 3: 11, 4: 3, 5: 10}
    store.create_run(new_run(stages=[stage_row(n, due_at=at) for n, at in due.items()]))
    seen = look(store, now=10)
    assert [row.n for row in seen.stages] == [1, 4, 0, 5]
    assert not seen.more


def test_a_snapshot_says_when_its_limit_cut_something_off(store: SqlStore) -> None:
    store.create_run(new_run(stages=[stage_row(n, due_at=n) for n in range(4)]))
    assert [row.n for row in look(store, limit=3).stages] == [0, 1, 2]
    assert look(store, limit=3).more
    assert not look(store, limit=4).more


def test_ready_stages_without_a_time_are_seen_as_far_as_there_is_room(store: SqlStore) -> None:
    rows = [stage_row(n, state="READY") for n in range(5)]
    store.create_run(new_run(stages=[*rows, stage_row(5, due_at=0), stage_row(6)]))
    assert [row.n for row in look(store, room=0).stages] == [5]
    assert [row.n for row in look(store, room=2).stages] == [5, 0, 1]
    assert [row.n for row in look(store, room=9, limit=3).stages] == [5, 0, 1, 2]


def test_room_is_asked_with_the_load_of_all_runs(store: SqlStore) -> None:
    asked = []
    store.ensure_sites(["nersc", "alcf"])
    for run_id in (RUN, "two"):
        store.create_run(new_run(run_id=run_id))
        apply(store, Changes(new_attempts=[attempt_row(0, run_id=run_id)]), run_id=run_id)
    with deciding(store) as tx:
        seen = tx.snapshot(now=0, limit=9, room=lambda load: asked.append(dict(load)) or 0)
    assert asked == [{"nersc": 2, "alcf": 0}]
    assert (seen.load["nersc"], seen.own_load["nersc"]) == (2, 1)


def test_rivals_are_the_other_runs_that_want_room(store: SqlStore) -> None:
    for run_id, wants in ((RUN, 1), ("two", 1), ("three", 0)):
        store.create_run(new_run(run_id=run_id, wants=wants))
    assert look(store).rivals == 1


def test_a_snapshot_holds_open_attempts_and_the_current_one_but_no_history(store: SqlStore) -> None:
    attempts = [
        attempt_row(0, 1, open=0, state="FAILED"),
        attempt_row(0, 2, open=1, orphan=1),
        attempt_row(0, 3, open=0, state="FAILED"),
    ]
    store.create_run(new_run())
    row = stage_of(store, 0)._replace(attempt=3, state="ACTIVE", due_at=0)
    apply(store, Changes(stages=[row], new_attempts=attempts))
    assert [row.number for row in look(store).attempts[0]] == [2, 3]


def test_a_stage_never_tried_has_an_empty_list_of_attempts(store: SqlStore) -> None:
    store.create_run(new_run())
    assert look(store).attempts == {0: []}


def test_a_snapshot_sees_what_was_applied_before_it_in_the_same_transaction(store: SqlStore) -> None:
    store.create_run(new_run([(), (0,)]))
    store.ensure_sites(["nersc"])
    with deciding(store) as tx:
        first = tx.snapshot(now=10, limit=9, room=lambda _load: 0)
        done = first.stages[0]._replace(state="SUCCEEDED", due_at=None, attempt=1)
        changes = Changes(stages=[done], settled=[(0, "ok")], new_attempts=[attempt_row(0)])
        tx.apply(changes, now=10)
        second = tx.snapshot(now=10, limit=9, room=lambda _load: 0)
    assert [(row.n, row.unmet) for row in second.stages] == [(1, 0)]
    assert (second.run.unsettled, second.run.open_attempts, second.run.ver) == (1, 1, first.run.ver + 1)
    assert (second.load["nersc"], second.own_load["nersc"]) == (1, 1)
    assert first.load["nersc"] == 0


def test_questions_for_single_stages_answer_for_those_asked(store: SqlStore) -> None:
    store.create_run(new_run([(), (), (0, 1)]))
    apply(store, Changes(products=[product_row(1)]))
    store.record(Sightings(checkpoints=[checkpoint_row(0, 2), checkpoint_row(0, 1)]), now=1)
    with deciding(store) as tx:
        assert [row.seq for row in tx.checkpoints([0, 1])[0]] == [1, 2]
        assert tx.checkpoints([0, 1])[1] == []
        assert tx.products([0, 1]) == {1: product_row(1)}
        assert [row.parent for row in tx.parents([2])[2]] == [0, 1]
        assert set(tx.stage_rows(["s2", "s0", "nothing"])) == {"s0", "s2"}


def test_a_list_longer_than_one_slice_is_answered_whole(store: SqlStore) -> None:
    count = 1300
    store.create_run(new_run(stages=[stage_row(n) for n in range(count)]))
    assert set(store.stages_at(RUN, range(count))) == set(range(count))


# -- what is written ---------------------------------------------------------------------------------------


def test_changed_rows_are_written_and_their_version_grows(store: SqlStore) -> None:
    store.create_run(new_run())
    row = stage_of(store, 0)._replace(state="READY", reason="free", due_at=70, avoid='["alcf"]', want="nersc")
    apply(store, Changes(stages=[row]))
    assert stage_of(store, 0) == row._replace(ver=1)
    apply(store, Changes(new_attempts=[attempt_row(0)]))
    attempt = attempt_row(0, state="QUEUED", submitted_at=9, restore="{}", reason="why")
    apply(store, Changes(attempts=[attempt]))
    assert list(store.attempts(RUN, 0)) == [attempt._replace(ver=1)]


def test_what_was_seen_meanwhile_is_not_overwritten_by_a_decision(store: SqlStore) -> None:
    store.create_run(new_run())
    apply(store, Changes(new_attempts=[attempt_row(0)]))
    store.record(Sightings(attempts=[AttemptSeen(run_id=RUN, n=0, number=1, facts={"native_id": "j1"})]), now=1)
    apply(store, Changes(attempts=[attempt_row(0, state="QUEUED")]))
    (row,) = store.attempts(RUN)
    assert (row.state, row.native_id) == ("QUEUED", "j1")


@pytest.mark.parametrize("what", ["stage", "attempt"])
def test_a_row_that_was_changed_since_is_refused_and_nothing_is_kept(store: SqlStore, what: str) -> None:
    store.create_run(new_run([(), ()]))
    apply(store, Changes(new_attempts=[attempt_row(0)]))
    stale = (
        Changes(stages=[stage_of(store, 0)._replace(ver=7)])
        if what == "stage"
        else Changes(attempts=[attempt_row(0, ver=7)])
    )
    stale.stages.append(stage_of(store, 1)._replace(state="READY"))
    stale.events.append(NewEvent(kind="never"))
    before = (store.stages(RUN), store.attempts(RUN), store.events(RUN), run_of(store)._replace(lease_token=0))
    with pytest.raises(StaleRow, match=what):
        apply(store, stale)
    assert before == (store.stages(RUN), store.attempts(RUN), store.events(RUN), run_of(store)._replace(lease_token=0))


def test_a_second_product_of_a_stage_is_refused(store: SqlStore) -> None:
    store.create_run(new_run())
    apply(store, Changes(products=[product_row(0, attempt=1)]))
    with pytest.raises(StaleRow):
        apply(store, Changes(products=[product_row(0, attempt=2)], events=[NewEvent(kind="never")]))
    assert [row.attempt for row in store.products(RUN)] == [1]
    assert [event.kind for event in store.events(RUN)] == ["accepted"]


def test_a_submit_key_serves_one_attempt_only(store: SqlStore) -> None:
    store.create_run(new_run([(), ()]))
    apply(store, Changes(new_attempts=[attempt_row(0, submit_key="cfx")]))
    with pytest.raises(StaleRow):
        apply(store, Changes(new_attempts=[attempt_row(1, submit_key="cfx")]))


def test_a_command_is_carried_out_once(store: SqlStore) -> None:
    store.create_run(new_run())
    store.add_command(command_row("c1"))
    apply(store, Changes(commands_done=[("c1", "ok")]))
    with pytest.raises(StaleRow, match="command"):
        apply(store, Changes(commands_done=[("c1", "again")]))
    assert run_of(store).commands == 0


def test_an_exception_inside_undoes_all_that_was_applied(store: SqlStore) -> None:
    store.create_run(new_run())
    row = stage_of(store, 0)._replace(state="READY")

    def decide() -> None:
        with deciding(store) as tx:
            tx.apply(Changes(stages=[row], events=[NewEvent(kind="x")]), now=1)
            raise KeyError("a fault in the engine")

    with pytest.raises(KeyError):
        decide()
    assert stage_of(store, 0).state == "WAITING"
    assert len(store.events(RUN)) == 1


def test_of_the_run_only_the_decided_columns_are_written(store: SqlStore) -> None:
    store.create_run(new_run())
    before = run_of(store)
    changed = before._replace(
        state="RUNNING", reason="r", ended_at=9, held=1, wants=1, cancel_requested_at=3, name="no", unsettled=77
    )
    apply(store, Changes(run=changed))
    after = run_of(store)
    assert (after.state, after.reason, after.ended_at, after.held, after.wants, after.cancel_requested_at) == (
        "RUNNING", "r", 9, 1, 1, 3,
    )  # fmt: skip
    assert (after.name, after.unsettled) == (before.name, before.unsettled)


def test_the_runs_counters_follow_its_rows(store: SqlStore) -> None:
    store.create_run(new_run([(), (), ()]))
    attempts = [attempt_row(0), attempt_row(1), attempt_row(2, open=0)]
    apply(store, Changes(new_attempts=attempts, settled=[(0, "ok"), (1, "failed")], failed=1))
    row = run_of(store)
    assert (row.stages, row.unsettled, row.failed, row.open_attempts) == (3, 1, 1, 2)
    apply(store, Changes(attempts=[attempt_row(0, open=0), attempt_row(1), attempt_row(2, open=0)]))
    assert run_of(store).open_attempts == 1
    apply(store, Changes(reopened=[(1, "failed")], failed=-1))
    row = run_of(store)
    assert (row.unsettled, row.failed) == (2, 0)


def test_an_attempt_closed_twice_in_a_transaction_is_counted_once(store: SqlStore) -> None:
    store.create_run(new_run())
    apply(store, Changes(new_attempts=[attempt_row(0)]))
    with deciding(store) as tx:
        tx.apply(Changes(attempts=[attempt_row(0, open=0)]), now=1)
        tx.apply(Changes(attempts=[attempt_row(0, open=0, ver=1, reason="more")]), now=1)
    assert run_of(store).open_attempts == 0


def test_effects_are_dropped_only_while_nobody_performs_them(store: SqlStore) -> None:
    store.create_run(new_run())
    apply(store, Changes(effects=[effect_row("free"), effect_row("taken", claim="me", claim_until=99)]))
    apply(store, Changes(dropped_effects=["free", "taken", "unknown"]), now=20)
    states = {row.key: (row.state, row.due_at, row.done_at) for row in store.effects(RUN)}
    assert states == {"free": ("dropped", None, 20), "taken": ("pending", 99, None)}


def test_a_judged_checkpoint_keeps_its_other_columns(store: SqlStore) -> None:
    store.create_run(new_run())
    store.record(Sightings(checkpoints=[checkpoint_row(0, 1, state="verified", manifest="{}", verified_at=4)]), now=1)
    apply(store, Changes(checkpoint_states=[checkpoint_row(0, 1, state="suspect", reason="failed to restore")]))
    (row,) = store.checkpoints(RUN)
    assert row == checkpoint_row(0, 1, state="suspect", reason="failed to restore", manifest="{}", verified_at=4)


def test_a_decision_that_applied_nothing_leaves_no_trace(store: SqlStore, clock: VirtualClock) -> None:
    store.create_run(new_run())
    lease = store.acquire(RUN, owner="me", ttl=10)
    before, row = store.counts.commits, run_of(store)
    assert lease
    with store.deciding(lease, ttl=99) as tx:
        tx.snapshot(now=1, limit=9, room=lambda _load: 9)
        tx.apply(Changes(), now=1)
    assert store.counts.commits == before
    assert run_of(store) == row


def test_a_closed_store_says_so(store: SqlStore) -> None:
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.run(RUN)
