"""What the desk asks of its rows, on every kind of store."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from postgres_kit import MovedClock
from store_kit import RUN, apply, effect_row, new_run

from broker.store.base import Changes, CopySeen, NewEvent, Sightings
from broker.store.sql import SqlStore
from broker.traffic.rows import (
    LinkRow,
    MovementRow,
    MoverRow,
    ReplicaRow,
    TrafficSeen,
    TransferRow,
    movement_of,
)
from connectors.model import Origin, Transfer, TransferItem

DIGEST = "ab" * 32


def wanted(key: str, *, at: int = 10, run_id: str = "", **said: Any) -> MovementRow:
    item = TransferItem(source="from/ä b", destination="to/ä b", size=5, sha256=DIGEST, mode=0o640)
    given = Transfer(
        key=key,
        source_site="east",
        destination_site="cfs:",
        items=(item, TransferItem(source="d/", destination="e/")),
        others=(Origin(site="north", items=(item,)),),
        label="run/stage@1",
    )
    return movement_of(given, run_id=run_id, n=0, attempt=1, now=at)._replace(**said)


def transfer(key: str = "t1", **said: Any) -> TransferRow:
    values: dict[str, Any] = dict.fromkeys(TransferRow._fields, "")
    values |= dict.fromkeys(("urgent", "movements", "files", "bytes", "moved", "files_moved", "faults"), 0)
    values |= dict.fromkeys(("began_at", "progress_at", "ended_at"))
    values |= {"key": key, "mover": "globus", "source": "east", "state": "begun", "created_at": 20, "open": 1}
    return TransferRow(**{**values, **said})


def keys(rows: Any) -> list[str]:
    return [row.key for row in rows]


def test_a_movement_is_read_as_it_was_asked_for(store: SqlStore) -> None:
    store.traffic.want([wanted("m")])
    row = store.traffic.movements(["m", "absent"])["m"]
    first, second = row.origins()
    assert (first.site, second.site) == ("east", "north")
    assert first.items[0] == TransferItem(source="from/ä b", destination="to/ä b", size=5, sha256=DIGEST, mode=0o640)
    assert first.items[1].sha256 is None


def test_asking_twice_changes_nothing_and_asking_after_a_failure_begins_anew(store: SqlStore) -> None:
    store.traffic.want([wanted("m")])
    store.traffic.want([wanted("m", at=99)])
    assert store.traffic.movements(["m"])["m"].due_at == 10
    failed = wanted("m")._replace(state="failed", due_at=None, ended_at=50, reason="dark", fault="site", tries=2)
    store.traffic.record(TrafficSeen(movements=[failed]), now=50)
    store.traffic.want([wanted("m", at=99)])
    row = store.traffic.movements(["m"])["m"]
    assert (row.state, row.due_at, row.ended_at, row.reason, row.tries) == ("wanted", 99, None, "", 2)


def test_what_has_arrived_is_not_wanted_again(store: SqlStore) -> None:
    store.traffic.want([wanted("m")])
    store.traffic.record(TrafficSeen(movements=[wanted("m")._replace(state="succeeded", due_at=None)]), now=50)
    store.traffic.want([wanted("m", at=99)])
    assert store.traffic.movements(["m"])["m"].state == "succeeded"
    assert store.traffic.wanted(now=1_000, limit=10) == []


def test_what_is_over_stays_as_it_ended(store: SqlStore) -> None:
    store.traffic.want([wanted("m")])
    store.traffic.record(TrafficSeen(movements=[wanted("m")._replace(state="succeeded", due_at=None)]), now=50)
    store.traffic.record(TrafficSeen(movements=[wanted("m")._replace(state="failed", due_at=None)]), now=60)
    assert store.traffic.movements(["m"])["m"].state == "succeeded"


def test_urgent_ones_come_first_then_the_oldest_and_none_before_its_time(store: SqlStore) -> None:
    rows = [wanted("b", at=5), wanted("a", at=7), wanted("u", at=9, urgent=1), wanted("later", at=80)]
    store.traffic.want(rows)
    assert keys(store.traffic.wanted(now=50, limit=10)) == ["u", "b", "a"]
    assert keys(store.traffic.wanted(now=50, limit=2)) == ["u", "b"]


def test_a_transfer_takes_along_what_is_wanted_still(store: SqlStore) -> None:
    store.traffic.want([wanted("a"), wanted("b"), wanted("gone")])
    store.traffic.record(TrafficSeen(movements=[wanted("gone")._replace(state="canceled", due_at=None)]), now=15)
    members = [("a", "[]"), ("b", '[["south",[]]]'), ("gone", "[]")]
    assert store.traffic.begin(transfer(), members) == ["a", "b"]
    (row,) = store.traffic.open_transfers()
    assert (row.key, row.movements) == ("t1", 2)
    carried = store.traffic.carried_by("t1")
    assert [(one.key, one.state, one.mover, one.taken_from) for one in carried] == [
        ("a", "active", "globus", "east"),
        ("b", "active", "globus", "east"),
    ]
    assert carried[1].origins()[1].site == "south"
    assert store.traffic.begin(transfer("t2"), [("a", "[]")]) == []
    assert keys(store.traffic.open_transfers()) == ["t1"]


def test_of_two_who_begin_with_the_same_movement_one_has_it(store: SqlStore) -> None:
    store.traffic.want([wanted(f"m{n}") for n in range(20)])
    taken: dict[str, list[str]] = {}

    def begin(name: str) -> None:
        taken[name] = list(store.traffic.begin(transfer(name), [(f"m{n}", "[]") for n in range(20)]))

    threads = [threading.Thread(target=begin, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key for got in taken.values() for key in got) == sorted(f"m{n}" for n in range(20))
    for name, got in taken.items():
        assert [one.key for one in store.traffic.carried_by(name)] == sorted(got)


def test_a_transfer_that_is_over_is_not_opened_again(store: SqlStore) -> None:
    store.traffic.want([wanted("a")])
    store.traffic.begin(transfer(), [("a", "[]")])
    store.traffic.record(TrafficSeen(transfers=[transfer(state="succeeded", open=0, ended_at=30)]), now=30)
    store.traffic.record(TrafficSeen(transfers=[transfer(state="active")]), now=40)
    assert store.traffic.open_transfers() == []
    assert store.traffic.transfer("t1") == transfer(state="succeeded", open=0, ended_at=30)
    assert not store.traffic.ask_to_cancel("t1", reason="late")


def test_a_cancel_is_kept_with_its_reason(store: SqlStore) -> None:
    store.traffic.want([wanted("a")])
    store.traffic.begin(transfer(), [("a", "[]")])
    assert store.traffic.ask_to_cancel("t1", reason="by ada")
    (row,) = store.traffic.open_transfers()
    assert (row.state, row.reason) == ("canceling", "by ada")
    assert not store.traffic.ask_to_cancel("absent", reason="by ada")


def test_transfers_are_listed_newest_first_of_a_run_or_of_all(store: SqlStore) -> None:
    store.traffic.want([wanted("a", run_id="r1"), wanted("b", run_id="r2"), wanted("c", run_id="r1")])
    store.traffic.begin(transfer("t1"), [("a", "[]")])
    store.traffic.begin(transfer("t2", created_at=30), [("b", "[]")])
    store.traffic.begin(transfer("t3", created_at=40), [("c", "[]")])
    store.traffic.record(TrafficSeen(transfers=[transfer("t3", created_at=40, open=0, state="failed")]), now=50)
    assert keys(store.traffic.transfers()) == ["t3", "t2", "t1"]
    assert keys(store.traffic.transfers(run_id="r1")) == ["t3", "t1"]
    assert keys(store.traffic.transfers(open_only=True)) == ["t2", "t1"]
    assert keys(store.traffic.transfers(limit=1)) == ["t3"]
    assert keys(store.traffic.movements_of("r1")) == ["a", "c"]


def test_what_a_movement_is_about_is_woken_with_its_run(store: SqlStore) -> None:
    store.create_run(new_run([[]]))
    asks = effect_row("stage_in:k", due_at=10**15)
    apply(store, Changes(effects=[asks], events=[NewEvent(kind="x")]))
    concerned = store.traffic.record(TrafficSeen(wake=["stage_in:k", "absent"]), now=77)
    assert list(concerned) == [RUN]
    woken = store.effect("stage_in:k")
    assert woken is not None
    assert woken.due_at == 77


def test_a_movement_whose_asker_is_over_is_unwanted(store: SqlStore) -> None:
    store.create_run(new_run([[]]))
    apply(store, Changes(effects=[effect_row("stage_in:k"), effect_row("stage_in:l")]))
    store.traffic.want([wanted("k", about="stage_in:k"), wanted("l", about="stage_in:l"), wanted("nobody's")])
    assert store.traffic.unwanted() == []
    apply(store, Changes(dropped_effects=["stage_in:k"]))
    assert keys(store.traffic.unwanted()) == ["k"]
    store.traffic.record(TrafficSeen(movements=[wanted("k")._replace(state="canceled", due_at=None)]), now=5)
    assert store.traffic.unwanted() == []


def test_copies_are_found_by_what_they_hold_and_lost_ones_are_told_as_such(store: SqlStore) -> None:
    copies = [
        ReplicaRow(DIGEST, "east", "a", 5, "available", 0, 9, "", ""),
        ReplicaRow(DIGEST, "west", "b", 5, "suspect", 1, None, "damaged", ""),
        ReplicaRow(DIGEST, "north", "c", 5, "lost", 0, None, "", ""),
    ]
    store.traffic.record(TrafficSeen(replicas=copies), now=9)
    store.traffic.record(TrafficSeen(replicas=[copies[1]._replace(state="bad", failures=2)]), now=10)
    found = store.traffic.replicas([DIGEST, "cd" * 32])
    assert [(row.side, row.state, row.failures) for row in found[DIGEST]] == [
        ("east", "available", 0),
        ("north", "lost", 0),
        ("west", "bad", 2),
    ]
    assert list(found) == [DIGEST]


def test_a_copy_that_a_job_did_not_find_is_lost_until_it_was_verified_again(store: SqlStore) -> None:
    copies = [
        ReplicaRow(DIGEST, "east", "a", 5, "available", 0, 9, "", "r"),
        ReplicaRow(DIGEST, "west", "a", 5, "available", 0, 9, "", "r"),
    ]
    store.traffic.record(TrafficSeen(replicas=copies), now=9)
    seen = [CopySeen("east", "a", "lost", "it is gone"), CopySeen("east", "unknown", "lost", "it is gone")]
    for _ in range(2):
        store.record(Sightings(copies=seen), now=10)
        found = store.traffic.replicas([DIGEST])[DIGEST]
        assert [(row.side, row.state, row.reason) for row in found] == [
            ("east", "lost", "it is gone"),
            ("west", "available", ""),
        ]
    store.traffic.record(TrafficSeen(replicas=copies[:1]), now=11)
    assert {row.state for row in store.traffic.replicas([DIGEST])[DIGEST]} == {"available"}


def test_links_and_movers_are_kept(store: SqlStore) -> None:
    link = LinkRow("east", "west", "globus", '{"v":1}', 3, 9)
    store.traffic.record(TrafficSeen(links=[link]), now=9)
    store.traffic.record(TrafficSeen(links=[link._replace(samples=4)]), now=10)
    assert store.traffic.links() == [link._replace(samples=4)]
    assert store.traffic.take_turn("globus", now=10, until=20)
    silent = MoverRow("globus", None, 5, 7, 3, "no route", "")
    store.traffic.record(TrafficSeen(movers=[silent]), now=11)
    assert store.traffic.movers() == {"globus": silent._replace(next_at=20)}


def test_one_of_many_has_a_movers_turn(store: SqlStore, clock: MovedClock) -> None:
    del clock
    assert [store.traffic.take_turn("globus", now=10, until=20) for _ in range(3)] == [True, False, False]
    assert store.traffic.take_turn("other", now=10, until=20)
    store.traffic.hasten_turn("globus", at=15)
    store.traffic.hasten_turn("globus", at=18)
    assert not store.traffic.take_turn("globus", now=14, until=20)
    assert store.traffic.take_turn("globus", now=15, until=20)


@pytest.mark.parametrize("text", ["", "it's \\ odd", "ä" * 1000])
def test_notes_are_kept_replaced_and_dropped(store: SqlStore, text: str) -> None:
    assert store.notes.put_first("k", text) == text
    assert store.notes.put_first("k", "another") == text
    store.notes.put("k", "newer")
    store.notes.put("l", text)
    assert store.notes.get(["k", "l", "absent"]) == {"k": "newer", "l": text}
    store.notes.drop(["k", "absent"])
    assert store.notes.get(["k", "l"]) == {"l": text}


def test_of_many_who_note_first_all_are_told_the_same(store: SqlStore) -> None:
    told: list[str] = []
    threads = [threading.Thread(target=lambda n=n: told.append(store.notes.put_first("k", str(n)))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 8
    assert len(set(told)) == 1


def direct(key: str, **said: Any) -> TransferRow:
    return transfer(key, mover="relay", native_id="first", **said)


def test_what_a_process_carries_is_wanted_and_on_its_transfer_in_one_step(store: SqlStore) -> None:
    store.traffic.carry([(direct("t"), wanted("m"))])
    row = store.traffic.movements(["m"])["m"]
    assert (row.state, row.transfer, row.mover) == ("active", "t", "relay")
    assert [one.key for one in store.traffic.open_transfers()] == ["t"]
    store.traffic.carry([(direct("t2"), wanted("m"))])
    assert store.traffic.movements(["m"])["m"].transfer == "t"
    assert store.traffic.transfer("t2") is None


def test_a_transfer_that_ended_is_opened_again_under_its_key(store: SqlStore) -> None:
    store.traffic.carry([(direct("t"), wanted("m"))])
    row = store.traffic.movements(["m"])["m"]
    over = direct("t", state="failed", open=0, ended_at=20)
    store.traffic.record(
        TrafficSeen(transfers=[over], movements=[row._replace(state="failed", due_at=None, ended_at=20)]), now=20
    )
    assert store.traffic.open_transfers() == []
    store.traffic.carry([(direct("t", state="begun"), wanted("m", at=30))])
    (again,) = store.traffic.open_transfers()
    assert (again.state, again.ended_at) == ("begun", None)
    assert store.traffic.movements(["m"])["m"].state == "active"


def test_of_two_who_take_a_transfer_over_one_has_it(store: SqlStore) -> None:
    store.traffic.carry([(direct("t"), wanted("m"))])
    assert store.traffic.hold("t", by="second", was="first")
    assert not store.traffic.hold("t", by="third", was="first")
    assert not store.traffic.hold("absent", by="third", was="first")
    assert store.traffic.open_transfers()[0].native_id == "second"


def test_a_cancel_is_taken_back_by_no_progress_only_by_the_end(store: SqlStore) -> None:
    store.traffic.carry([(direct("t"), wanted("m"))])
    seen = store.traffic.open_transfers()[0]._replace(state="active", moved=5)
    assert store.traffic.ask_to_cancel("t", reason="by ada")
    store.traffic.record(TrafficSeen(transfers=[seen]), now=20)
    assert [(one.state, one.reason) for one in store.traffic.open_transfers()] == [("canceling", "by ada")]
    store.traffic.record(TrafficSeen(transfers=[seen._replace(state="succeeded", open=0)]), now=30)
    assert store.traffic.open_transfers() == []
