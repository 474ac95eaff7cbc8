"""A database is checked whole: every run, every stream, and what lies between the tables."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_kit import Stage, new_run

from broker.audit import Checked, Violation, check_all, check_run, whole
from broker.clock import VirtualClock
from broker.store.base import NewEvent, Sightings
from broker.store.sql import SqlStore

RUNS = [f"260101-{n:06d}-aaaaaaaa" for n in range(7)]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlStore]:
    monkeypatch.setattr(whole, "PAGE", 3)
    made = SqlStore.open(tmp_path / "x.db", clock=VirtualClock())
    for run_id in RUNS:
        made.create_run(new_run(run_id, [Stage("a"), Stage("b", needs=["a"])], now=0))
    for n in range(8):
        made.record(Sightings(events=[("site:nersc", NewEvent(kind=f"k{n}"))]), now=n)
    yield made
    made.close()


def sql(store: SqlStore, text: str) -> None:
    with store._database.engine.begin() as connection:
        connection.exec_driver_sql(text)


def found(store: SqlStore) -> list[Violation]:
    return list(check_all(store, Checked()))


def test_a_sound_database_is_looked_at_whole(store: SqlStore) -> None:
    checked = Checked()
    assert list(check_all(store, checked)) == []
    assert (checked.runs, checked.streams, checked.found) == (7, 8, 0)


@pytest.mark.parametrize("run_id", [RUNS[0], RUNS[2], RUNS[3], RUNS[6]])
def test_a_fault_in_any_run_of_any_page_is_found(store: SqlStore, run_id: str) -> None:
    sql(store, f"UPDATE run SET unsettled = 5 WHERE run_id = '{run_id}'")
    checked = Checked()
    assert [(v.rule, v.where) for v in check_all(store, checked)] == [("counters", run_id)]
    assert checked.by_rule == {"counters": 1}
    assert [v.rule for v in check_run(store, run_id, Checked())] == ["counters"]


@pytest.mark.parametrize("seq", [1, 3, 4, 8])
def test_a_changed_event_of_a_site_is_found_on_any_page(store: SqlStore, seq: int) -> None:
    sql(store, f"UPDATE event SET kind = 'other' WHERE stream = 'site:nersc' AND seq = {seq}")
    (violation,) = found(store)
    assert (violation.rule, violation.where) == ("I19", "site:nersc")
    assert f"event {seq} " in violation.what


def test_an_end_that_was_cut_off_is_found(store: SqlStore) -> None:
    sql(store, "DELETE FROM event WHERE stream = 'site:nersc' AND seq > 5")
    assert [v.where for v in found(store)] == ["site:nersc"]


def test_an_event_that_comes_while_the_stream_is_read_is_no_fault(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = store.events

    def meanwhile(stream: str, *, after: int = 0, limit: int = 100_000) -> object:
        store.record(Sightings(events=[("site:nersc", NewEvent(kind="late"))]), now=99)
        return events(stream, after=after, limit=limit)

    monkeypatch.setattr(store, "events", meanwhile)
    assert found(store) == []


def test_rows_without_their_run_are_found(store: SqlStore) -> None:
    sql(store, "INSERT INTO product VALUES ('gone', 0, 1, 1, 'x', '', '', '', 0, 5)")
    assert [(v.rule, v.where) for v in found(store)] == [("rows", "gone")]


def test_memory_does_not_grow_with_the_number_of_runs(tmp_path: Path) -> None:
    def peak(runs: int) -> int:
        store = SqlStore.open(tmp_path / f"{runs}.db", clock=VirtualClock())
        for n in range(runs):
            store.create_run(new_run(f"260101-{n:06d}-aaaaaaaa", [Stage(f"s{m}") for m in range(10)], now=0))
        gc.collect()
        tracemalloc.start()
        try:
            assert sum(1 for _ in check_all(store, Checked())) == 0
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            store.close()

    few, many = peak(20), peak(400)
    assert many < 1.5 * few + 100_000  # a page of ids
