"""After a restore: what the store keeps of jobs that no attempt knows, and of sites in quarantine."""

from __future__ import annotations

import json
from typing import Any

from postgres_kit import MovedClock
from sqlalchemy import update
from store_kit import RUN, apply, attempt_row, deciding, effect_row, new_run, run_of, stage_of

from broker.store.base import Changes, NewEvent, StrayRow
from broker.store.schema import installation, site
from broker.store.sql import SqlStore

TOLD = NewEvent(kind="reconciled", actor="reconcile")


def stray(key: str = "cfstray", **said: Any) -> StrayRow:
    return StrayRow(key, "nersc", "7", "running", RUN, 0, 1, 0, "adopt", 5, None, "")._replace(**said)


def quarantine(store: SqlStore) -> None:
    store.ensure_sites(["nersc", "alcf"])
    with store._database.engine.begin() as connection:
        connection.execute(update(site).values(quarantined=1))


def test_keys_of_attempts_and_of_strays_are_known(store: SqlStore) -> None:
    store.create_run(new_run())
    apply(store, Changes(new_attempts=[attempt_row(0, submit_key="cfone")]))
    store.add_strays([stray("cftwo")], now=5)
    assert store.unknown_keys(["cfone", "cftwo", "cfthree", "cfthree"]) == {"cfthree"}
    assert store.unknown_keys([]) == set()


def test_a_stray_is_kept_and_told_once_however_many_find_it(store: SqlStore) -> None:
    for state in ("running", "succeeded"):
        store.add_strays([stray(state=state), stray("cfother", site="alcf", run_id="", fate="cancel")], now=5)
    assert store.strays("nersc") == [stray()]
    assert len(store.strays()) == 2
    (told,) = store.events("site:nersc")
    assert json.loads(told.data)["key"] == "cfstray"
    (told,) = store.events("site:alcf")
    assert "run" not in json.loads(told.data)


def test_what_is_dealt_with_is_not_open_any_more_and_its_first_outcome_stays(store: SqlStore) -> None:
    store.add_strays([stray()], now=5)
    store.finish_strays([("cfstray", "taken up")], now=7)
    store.finish_strays([("cfstray", "canceled")], now=8)
    assert store.strays("nersc") == []
    (row,) = store.strays()
    assert (row.done_at, row.outcome) == (7, "taken up")


def test_a_decision_sees_the_earliest_attempt_that_may_be_taken_up(store: SqlStore) -> None:
    store.create_run(new_run([[], [], []]))
    store.add_strays(
        [
            stray("cfa3", number=3),
            stray("cfa2", number=2),
            stray("cfb1", n=1, fate="cancel"),
            stray("cfc1", n=2, done_at=6),
            stray("cfd1", run_id="another"),
        ],
        now=5,
    )
    with deciding(store) as tx:
        assert {n: row.key for n, row in tx.strays([0, 1, 2]).items()} == {0: "cfa2"}
        assert tx.strays([]) == {}
    apply(store, Changes(new_attempts=[attempt_row(0, submit_key="cfa2")]))
    with deciding(store) as tx:
        assert {n: row.key for n, row in tx.strays([0]).items()} == {0: "cfa3"}


def test_open_stages_are_those_that_may_still_start_something(store: SqlStore) -> None:
    store.create_run(new_run([[], [0]]))
    store.create_run(new_run([[]], "260101-000001-bbbbbbbb"))
    store.create_run(new_run([[]], "260101-000002-cccccccc", state="SUCCEEDED"))
    apply(store, Changes(stages=[stage_of(store, 0)._replace(state="SUCCEEDED", attempt=1)]))
    found = [(row.run_id[-1], row.n, row.path, row.attempt) for row in store.open_stages()]
    assert found == [("a", 1, "s1", 0), ("b", 0, "s0", 0)]


def test_the_end_of_a_quarantine_is_told_and_wakes_what_waited(store: SqlStore, clock: MovedClock) -> None:
    store.create_run(new_run([[], []]))
    quarantine(store)
    held = effect_row("submit:x", 1, due_at=clock() + 9_000_000)
    ready = stage_of(store, 0)._replace(state="READY", due_at=clock() + 5_000_000)
    apply(store, Changes(stages=[ready, stage_of(store, 1)._replace(due_at=None)], effects=[held]))
    assert store.lift_quarantine("nersc", TOLD, now=clock())
    assert [(row.site, row.quarantined) for row in store.sites()] == [("alcf", 1), ("nersc", 0)]
    assert (stage_of(store, 0).due_at, stage_of(store, 1).due_at) == (clock(), clock())
    due_at = run_of(store).due_at
    assert due_at is not None
    assert due_at <= clock()
    effect = store.effect("submit:x")
    assert effect is not None
    assert effect.due_at == clock()
    assert [event.kind for event in store.events("site:nersc")] == ["reconciled"]
    assert not store.lift_quarantine("nersc", TOLD, now=clock())
    assert len(store.events("site:nersc")) == 1


def test_what_backs_off_is_not_woken(store: SqlStore, clock: MovedClock) -> None:
    store.create_run(new_run())
    quarantine(store)
    later = clock() + 60_000_000
    apply(store, Changes(stages=[stage_of(store, 0)._replace(state="READY", due_at=later, not_before=later)]))
    store.lift_quarantine("nersc", TOLD, now=clock())
    assert stage_of(store, 0).due_at == later


def test_a_new_site_is_in_quarantine_only_after_a_restore(store: SqlStore) -> None:
    store.installation()
    store.ensure_sites(["nersc"])
    with store._database.engine.begin() as connection:
        connection.execute(update(installation).values(incarnation=1))
    store.ensure_sites(["nersc", "alcf"])
    assert {row.site: row.quarantined for row in store.sites()} == {"nersc": 0, "alcf": 1}


def test_runs_and_streams_are_read_a_page_at_a_time(store: SqlStore) -> None:
    runs = [f"26010{n}-000000-aaaaaaaa" for n in range(1, 6)]
    for run_id in runs:
        store.create_run(new_run(run_id=run_id))
    store.add_strays([stray()], now=5)
    assert store.run_ids(limit=2) == runs[:2]
    assert store.run_ids(after=runs[1], limit=9) == runs[2:]
    assert [name for name, _, _ in store.other_streams()] == ["site:nersc"]
    assert store.tip(runs[0]) == {name: tip for name, _, tip in store.streams()}[runs[0]]
    assert store.tip("nobody") == ""


def test_rows_of_a_run_that_is_gone_are_found(store: SqlStore) -> None:
    store.create_run(new_run())
    apply(store, Changes(effects=[effect_row("submit:x")]))
    assert store.lost_rows() == []
    with store._database.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO product VALUES ('gone', 0, 1, 1, 'x', '', '', '', 0, 5)")
    assert store.lost_rows() == [("product", "gone")]
