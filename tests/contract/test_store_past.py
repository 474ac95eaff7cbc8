"""What attempts tell of queues and work: the newest of a site, bounded, and by an index."""

from __future__ import annotations

import pytest
from store_kit import RUN, attempt_row, deciding, new_run, stage_row

from broker.store.base import Changes
from broker.store.sql import SqlStore


def filled(store: SqlStore, count: int = 6) -> None:
    """Attempts of one run: the even ones at nersc, the odd ones at alcf, each ended a second after the one before;
    the last two go on."""
    store.ensure_sites(["nersc", "alcf"])
    store.create_run(new_run(stages=[stage_row(n, state="READY") for n in range(count)]))
    rows = [attempt_row(n)._replace(site=("nersc", "alcf")[n % 2]) for n in range(count)]
    with deciding(store) as tx:
        tx.apply(Changes(new_attempts=rows), now=1)
    ended = [row._replace(state="SUCCEEDED", open=0, started_at=row.n, ended_at=row.n + 1) for row in rows[:-2]]
    with deciding(store) as tx:
        tx.apply(Changes(attempts=ended), now=2)


def test_attempts_that_ended_come_newest_first_with_the_names_of_their_run_and_stage(store: SqlStore) -> None:
    filled(store)
    found = store.past("nersc", since=0, limit=9)
    assert [(row.n, row.state, row.started_at, row.ended_at) for row in found] == [
        (2, "SUCCEEDED", 2, 3),
        (0, "SUCCEEDED", 0, 1),
    ]
    stage = store.stages(RUN)[0]
    run = store.run(RUN)
    assert run is not None
    assert (found[1].app, found[1].path, found[1].rules) == (run.name, stage.path, stage.rules)


def test_no_more_are_read_than_are_asked_for_and_none_that_are_older(store: SqlStore) -> None:
    filled(store, count=12)
    assert [row.n for row in store.past("nersc", since=0, limit=2)] == [8, 6]
    assert [row.n for row in store.past("nersc", since=7, limit=9)] == [8]


def test_those_that_go_on_are_told_apart(store: SqlStore) -> None:
    filled(store)
    assert [row.n for row in store.present("alcf", limit=9)] == [5]
    assert store.present("alcf", limit=0) == []


def test_a_thousand_finished_runs_are_not_read_from_end_to_end(store: SqlStore) -> None:
    """Asked of SQLite's own plan."""
    if not store._database.sqlite:
        pytest.skip("plans are told differently elsewhere")
    asked: list[str] = []
    filled(store)
    with store._database.writing() as tx:
        connection = tx._cursor.connection
    connection.set_trace_callback(asked.append)
    store.past("nersc", since=0, limit=9)
    store.present("nersc", limit=9)
    connection.set_trace_callback(None)
    plans = [
        detail
        for statement in asked
        if statement.startswith("SELECT")
        for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
    ]
    assert any("attempt_past" in detail for detail in plans)
    assert any("attempt_open" in detail for detail in plans)
    assert [detail for detail in plans if detail.startswith("SCAN")] == []
