"""What is kept for a while, on every kind of store."""

from __future__ import annotations

import json

from store_kit import RUN, apply, attempt_row, look, new_run

from broker.store.base import Changes, NewEvent, RetentionRow
from broker.store.sql import SqlStore


def row(key: str, **said: object) -> RetentionRow:
    values = RetentionRow(
        key=key,
        run_id=RUN,
        n=0,
        attempt=1,
        side="cfs:",
        path="raw/",
        files="",
        unless=json.dumps({"all": [], "any": []}),
        due_at=100,
        state="waiting",
        reason="",
        created_at=10,
        done_at=None,
    )
    return values._replace(**said)


def claimed(given: RetentionRow, until: int = 500) -> RetentionRow:
    return given._replace(state="removing", due_at=until)


def test_it_is_written_with_the_decision_that_publishes(store: SqlStore) -> None:
    store.create_run(new_run())
    apply(store, Changes(retention=[row("a")]))
    assert store.retention() == [row("a")]


def test_rows_that_are_known_are_left_as_they_are(store: SqlStore) -> None:
    store.enrol_retention([row("a")])
    store.enrol_retention([row("a", due_at=5), row("b")])
    assert sorted(store.retention()) == [row("a"), row("b")]


def test_due_is_what_is_due_the_longest_first(store: SqlStore) -> None:
    store.enrol_retention([row("a", due_at=30), row("b", due_at=20), row("c", due_at=31), row("d", due_at=None)])
    assert [found.key for found in store.due_retention(now=30, limit=10)] == ["b", "a"]
    assert [found.key for found in store.due_retention(now=30, limit=1)] == ["b"]


def test_of_two_claims_one_succeeds(store: SqlStore) -> None:
    store.enrol_retention([row("a")])
    assert store.change_retention(row("a"), claimed(row("a")), now=100, alone=True)
    assert not store.change_retention(row("a"), claimed(row("a"), until=600), now=100, alone=True)
    assert store.retention() == [claimed(row("a"))]


def test_nothing_is_claimed_while_anything_is_removed_and_then_it_is(store: SqlStore) -> None:
    store.enrol_retention([row("a"), row("b")])
    assert store.change_retention(row("a"), claimed(row("a")), now=100, alone=True)
    assert not store.change_retention(row("b"), claimed(row("b")), now=100, alone=True)
    assert store.change_retention(row("b"), claimed(row("b"), until=900), now=501, alone=True)


def test_what_was_done_is_told_once_and_only_if_it_was_ours(store: SqlStore) -> None:
    store.enrol_retention([claimed(row("a"))])
    gone = row("a", state="removed", due_at=None, done_at=200, reason="2 files")
    told = ("place:cfs", NewEvent(kind="removed"))
    assert not store.change_retention(claimed(row("a"), until=499), gone, now=200, told=told)
    assert store.change_retention(claimed(row("a")), gone, now=200, told=told)
    assert not store.change_retention(claimed(row("a")), gone, now=200, told=told)
    assert [event.kind for event in store.events("place:cfs")] == ["removed"]
    assert store.retention() == [gone]


def test_rows_around_the_same_files_are_found_and_no_others(store: SqlStore) -> None:
    near = [row("same"), row("inside", path="raw/d/"), row("around", path="raw/d/e/x")]
    far = [row("other", path="raw2/"), row("site", side="nersc"), row("gone", due_at=None, state="removed")]
    store.enrol_retention([row("a", path="raw/d/e/"), *near, *far])
    found = {one.key for one in store.retention_around(row("a", path="raw/d/e/"))}
    assert found == {"same", "inside", "around"}


def test_attempts_of_runs_that_are_over_are_found_once_in_order(store: SqlStore) -> None:
    store.create_run(new_run())
    apply(store, Changes(new_attempts=[attempt_row(0, site="nersc", state="SUCCEEDED", open=0, directory="runs/r/a1")]))
    assert store.ended_attempts("nersc", after=(0, ""), until=10_000, limit=10) == []
    run = store.run(RUN)
    assert run is not None
    apply(store, Changes(run=run._replace(state="SUCCEEDED", ended_at=50)))
    (found,) = store.ended_attempts("nersc", after=(0, ""), until=10_000, limit=10)
    assert (found.run_id, found.run_state, found.run_ended_at, found.directory) == (RUN, "SUCCEEDED", 50, "runs/r/a1")
    assert store.ended_attempts("nersc", after=(50, RUN), until=10_000, limit=10) == []
    assert store.ended_attempts("nersc", after=(0, ""), until=49, limit=10) == []
    assert store.ended_attempts("alcf", after=(0, ""), until=10_000, limit=10) == []


def test_an_attempt_at_no_site_takes_no_place_and_is_no_rival(store: SqlStore) -> None:
    """Both were once told apart by an empty name."""
    store.create_run(new_run())
    apply(store, Changes(new_attempts=[attempt_row(0, site="", state="STAGING_IN", open=1, directory="")]))
    snapshot = look(store)
    assert "" not in snapshot.load
    assert "" not in snapshot.own_load
    assert snapshot.rivals == 0
