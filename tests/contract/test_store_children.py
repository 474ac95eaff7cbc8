"""What becomes of the stages that need a stage, when it settles or is taken up again."""

from __future__ import annotations

import pytest
from store_kit import RUN, apply, new_run, quiet, run_of, stage_of, stage_row

from broker.store.base import Changes, DepRow
from broker.store.sql import SqlStore


def needs(store: SqlStore, n: int) -> tuple[int, int, int | None]:
    """(unmet, doomed, due) of a stage."""
    row = stage_of(store, n)
    return row.unmet, row.doomed, row.due_at


def test_a_child_becomes_due_when_its_last_need_is_met(store: SqlStore) -> None:
    store.create_run(new_run([(), (), (0, 1)]))
    apply(store, Changes(settled=[(0, "ok")]))
    assert needs(store, 2) == (1, 0, None)
    apply(store, Changes(settled=[(1, "ok")]), now=20)
    assert needs(store, 2) == (0, 0, 20)


def test_needs_that_are_met_together_all_count(store: SqlStore) -> None:
    store.create_run(new_run([(), (), (), (0, 1, 2), (2,)]))
    apply(store, Changes(settled=[(0, "ok"), (1, "ok"), (2, "ok")]))
    assert needs(store, 3) == (0, 0, 10)
    assert needs(store, 4) == (0, 0, 10)


def test_a_failed_need_dooms_its_children_at_once(store: SqlStore) -> None:
    store.create_run(new_run([(), (), (0, 1)]))
    apply(store, Changes(settled=[(0, "failed")]))
    assert needs(store, 2) == (2, 1, 10)


def test_needs_that_end_differently_together_are_told_apart(store: SqlStore) -> None:
    store.create_run(new_run([(), (), (0, 1), (0,), (1,)]))
    apply(store, Changes(settled=[(0, "ok"), (1, "failed")]))
    assert needs(store, 2) == (1, 1, 10)
    assert needs(store, 3) == (0, 0, 10)
    assert needs(store, 4) == (1, 1, 10)


def test_an_optional_need_that_failed_frees_its_turn_but_not_its_files(store: SqlStore) -> None:
    new = new_run([(), (0,), (0,)])
    turn_only = [DepRow(RUN, 0, 1, 0), DepRow(RUN, 0, 2, 1)]
    store.create_run(type(new)(run=new.run, document="{}", stages=new.stages, deps=turn_only))
    apply(store, Changes(settled=[(0, "waived")]))
    assert needs(store, 1) == (0, 0, 10)
    assert needs(store, 2) == (1, 1, 10)


@pytest.mark.parametrize("how", ["ok", "failed", "waived"])
def test_reopening_takes_back_what_settling_did_and_wakes_the_children(store: SqlStore, how: str) -> None:
    store.create_run(new_run([(), (), (0, 1)]))
    before = needs(store, 2)
    apply(store, Changes(settled=[(0, how)]))
    quiet(store, 2)
    apply(store, Changes(reopened=[(0, how)]), now=30)
    assert needs(store, 2) == (*before[:2], 30)
    assert run_of(store).unsettled == 3


def test_a_hint_that_lies_earlier_stays(store: SqlStore) -> None:
    store.create_run(new_run(stages=[stage_row(0), stage_row(1, unmet=1, due_at=3)], needs=[(), (0,)]))
    apply(store, Changes(settled=[(0, "ok")]), now=20)
    assert needs(store, 1) == (0, 0, 3)


def test_a_childs_version_does_not_change_with_its_needs(store: SqlStore) -> None:
    store.create_run(new_run([(), (0,)]))
    child = stage_of(store, 1)
    apply(store, Changes(settled=[(0, "ok")]))
    apply(store, Changes(stages=[child._replace(state="READY")]))
    row = stage_of(store, 1)
    assert (row.state, row.unmet) == ("READY", 0)


def test_a_child_changed_in_the_same_decision_is_woken_all_the_same(store: SqlStore) -> None:
    store.create_run(new_run([(), (0,)]))
    child = stage_of(store, 1)._replace(reason="seen", due_at=None)
    apply(store, Changes(stages=[child], settled=[(0, "ok")]))
    assert needs(store, 1) == (0, 0, 10)


def test_a_stage_may_add_stages_that_need_it(store: SqlStore) -> None:
    store.create_run(new_run([()]))
    new = [stage_row(1, unmet=0, due_at=10), stage_row(2, unmet=1)]
    apply(store, Changes(settled=[(0, "ok")], new_stages=new, new_deps=[DepRow(RUN, 0, 1, 1), DepRow(RUN, 1, 2, 1)]))
    assert needs(store, 1) == (0, 0, 10)
    assert needs(store, 2) == (1, 0, None)
    row = run_of(store)
    assert (row.stages, row.unsettled) == (3, 2)
    apply(store, Changes(settled=[(1, "ok")]))
    assert needs(store, 2) == (0, 0, 10)


def test_the_children_of_other_runs_stay_as_they_are(store: SqlStore) -> None:
    store.create_run(new_run([(), (0,)]))
    store.create_run(new_run([(), (0,)], run_id="two"))
    apply(store, Changes(settled=[(0, "ok")]))
    assert stage_of(store, 1, "two").unmet == 1


def test_a_sink_of_a_thousand_is_released_in_a_handful_of_statements(store: SqlStore) -> None:
    count = 1000
    store.create_run(new_run([*[() for _ in range(count)], tuple(range(count))]))
    before = store.counts.statements
    apply(store, Changes(settled=[(n, "ok") for n in range(count)]))
    assert store.counts.statements - before <= 8
    assert needs(store, count) == (0, 0, 10)
