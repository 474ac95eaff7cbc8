"""The chains of events: in order, without gaps, and any later change is found."""

from __future__ import annotations

import threading

import pytest
from store_kit import RUN, apply, deciding, new_run

from broker.store.audit import verify_chain
from broker.store.base import Changes, EventRow, NewEvent, Sightings, event_hash
from broker.store.sql import SqlStore


@pytest.fixture
def told(store: SqlStore) -> list[EventRow]:
    store.create_run(new_run())
    for k in range(4):
        apply(store, Changes(events=[NewEvent(kind=f"k{k}", stage="s0", data=f'{{"k": {k}}}')]), now=20 + k)
    return list(store.events(RUN))


def tip(store: SqlStore, stream: str = RUN) -> str:
    return {name: tip for name, _, tip in store.streams()}[stream]


def test_events_are_numbered_from_one_without_gaps(store: SqlStore, told: list[EventRow]) -> None:
    assert [event.seq for event in told] == [1, 2, 3, 4, 5]
    assert [event.at for event in told] == [0, 20, 21, 22, 23]
    assert list(store.streams()) == [(RUN, 5, told[-1].hash)]


def test_events_can_be_read_from_a_place_on(store: SqlStore, told: list[EventRow]) -> None:
    assert store.events(RUN, after=3) == told[3:]
    assert store.events(RUN, after=1, limit=2) == told[1:3]


def test_each_event_is_linked_to_the_one_before(told: list[EventRow]) -> None:
    assert told[0].hash == event_hash("", told[0][:-1])
    assert told[1].hash == event_hash(told[0].hash, told[1][:-1])


def test_an_untouched_chain_holds(store: SqlStore, told: list[EventRow]) -> None:
    assert verify_chain(told, tip(store)) is None
    assert verify_chain([], "") is None


@pytest.mark.parametrize("column", [name for name in EventRow._fields if name not in ("seq", "hash")])
def test_a_changed_event_is_found(store: SqlStore, told: list[EventRow], column: str) -> None:
    value = getattr(told[2], column)
    told[2] = told[2]._replace(**{column: value + 1 if isinstance(value, int) else f"{value}x"})
    broken = verify_chain(told, tip(store))
    assert broken is not None
    assert broken.seq == 3


def test_an_event_changed_with_its_hash_is_found_at_the_next(store: SqlStore, told: list[EventRow]) -> None:
    forged = told[2]._replace(data="{}")
    told[2] = forged._replace(hash=event_hash(told[1].hash, forged[:-1]))
    broken = verify_chain(told, tip(store))
    assert broken is not None
    assert broken.seq == 4


def test_an_event_taken_out_or_cut_off_or_put_in_is_found(store: SqlStore, told: list[EventRow]) -> None:
    end = tip(store)
    assert verify_chain(told[:2] + told[3:], end) == (3, "event 3 is missing; the next one there is 4")
    cut = verify_chain(told[:4], end)
    assert cut is not None
    assert "cut off" in cut.why
    assert verify_chain([told[0], *told], end) is not None
    assert verify_chain([], end) is not None


def test_a_decision_is_kept_under_the_number_of_the_event_that_tells_of_it(store: SqlStore) -> None:
    store.create_run(new_run([(), ()]))
    events = [
        NewEvent(kind="plain"),
        NewEvent(kind="placed", n=0, attempt=1, decision=("placement", "nersc", '{"why": 1}')),
        NewEvent(kind="placed", n=1, attempt=1, decision=("placement", "alcf", "{}")),
    ]
    apply(store, Changes(events=events), now=30)
    first, second = store.decisions(RUN)
    assert first == (RUN, 3, 0, 1, 30, "placement", "nersc", '{"why": 1}')
    assert (second.seq, second.outcome) == (4, "alcf")
    assert store.decisions(RUN, 1) == [second]


def test_events_of_several_rounds_of_one_decision_are_one_chain(store: SqlStore) -> None:
    store.create_run(new_run())
    with deciding(store) as tx:
        for k in range(3):
            tx.apply(Changes(events=[NewEvent(kind=f"k{k}")]), now=k)
    assert [event.kind for event in store.events(RUN)] == ["accepted", "k0", "k1", "k2"]
    assert verify_chain(store.events(RUN), tip(store)) is None


def test_sites_have_chains_of_their_own(store: SqlStore) -> None:
    events = [("site:b", NewEvent(kind="down")), ("site:a", NewEvent(kind="up")), ("site:b", NewEvent(kind="up"))]
    store.record(Sightings(events=events), now=5)
    store.set_site_mode("a", mode="drained", by="ann", reason="works")
    assert [(name, seq) for name, seq, _ in store.streams()] == [("site:a", 2), ("site:b", 2)]
    told = store.events("site:a")
    assert [(event.kind, event.actor) for event in told] == [("up", "engine"), ("site_mode", "ann")]
    assert told[1].data == '{"mode": "drained", "reason": "works"}'
    assert verify_chain(told, tip(store, "site:a")) is None


def test_threads_that_tell_at_once_make_one_chain(store: SqlStore) -> None:
    def tell(name: str) -> None:
        for _ in range(5):
            store.record(Sightings(events=[("operators", NewEvent(kind=name))]), now=1)

    threads = [threading.Thread(target=tell, args=(f"t{k}",)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = store.events("operators")
    assert len(told) == 20
    assert verify_chain(told, tip(store, "operators")) is None
