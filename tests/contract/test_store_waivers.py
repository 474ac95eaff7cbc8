"""Waivers, on every kind of store: two persons, once each, with an end; every step is told."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from store_kit import RUN, TTL, apply, new_run, run_of, stage_of

from broker.store.base import Changes, WaiverRow
from broker.store.sql import SqlStore


def row(ident: str = "w1", **said: object) -> WaiverRow:
    values = WaiverRow(
        id=ident,
        run_id=RUN,
        side="alcf",
        rule="data.stay",
        reason="nersc is down for a week",
        asked_by="ann",
        asked_at=10,
        ends_at=100,
        confirmed_by="",
        confirmed_at=None,
        confirm_reason="",
        withdrawn_by="",
        withdrawn_at=None,
        withdraw_reason="",
    )
    return values._replace(**said)


@pytest.fixture
def asked(store: SqlStore) -> SqlStore:
    store.create_run(new_run())
    assert store.ask_waiver(row())
    return store


def told(store: SqlStore) -> list[tuple[str, str]]:
    return [(event.kind, event.actor) for event in store.events(RUN) if event.kind.startswith("waiver")]


def test_what_is_asked_for_is_kept_and_told(asked: SqlStore) -> None:
    assert asked.waiver("w1") == row()
    assert asked.waivers(RUN) == asked.waivers() == [row()]
    assert asked.waivers("another") == []
    (event,) = [event for event in asked.events(RUN) if event.kind == "waiver_asked"]
    assert (event.actor, event.at) == ("ann", 10)
    assert json.loads(event.data)["reason"] == "nersc is down for a week"


def test_the_same_row_asked_for_twice_is_there_once(asked: SqlStore) -> None:
    assert asked.ask_waiver(row())
    assert told(asked) == [("waiver_asked", "ann")]


def test_of_one_rule_at_one_side_one_is_open_at_a_time(asked: SqlStore) -> None:
    assert not asked.ask_waiver(row("w2", asked_at=99, asked_by="bob"))
    assert asked.ask_waiver(row("w3", side="cfs:"))
    assert asked.ask_waiver(row("w4", rule="data.export_control"))
    assert asked.ask_waiver(row("w5", asked_at=100, ends_at=200))  # the first one has ended by then
    assert [one.id for one in asked.waivers(RUN)] == ["w5", "w4", "w3", "w1"]
    assert [one.id for one in asked.waivers(RUN, limit=1)] == ["w5"]


def test_another_person_confirms_it_once(asked: SqlStore) -> None:
    assert asked.confirm_waiver("w1", by="bob", reason="agreed", now=20)
    assert asked.waiver("w1") == row(confirmed_by="bob", confirmed_at=20, confirm_reason="agreed")
    assert not asked.confirm_waiver("w1", by="cleo", reason="agreed", now=21)
    assert told(asked) == [("waiver_asked", "ann"), ("waiver_confirmed", "bob")]


@pytest.mark.parametrize(
    ("by", "now"), [("ann", 20), ("bob", 100), ("bob", 101)], ids=["the asker", "at its end", "after it"]
)
def test_neither_its_asker_nor_anybody_after_its_end_confirms_it(asked: SqlStore, by: str, now: int) -> None:
    assert not asked.confirm_waiver("w1", by=by, reason="agreed", now=now)
    assert asked.waiver("w1") == row()
    assert told(asked) == [("waiver_asked", "ann")]


def test_what_was_withdrawn_is_not_confirmed_and_not_withdrawn_twice(asked: SqlStore) -> None:
    assert asked.withdraw_waiver("w1", by="cleo", reason="not needed", now=15)
    assert not asked.confirm_waiver("w1", by="bob", reason="agreed", now=20)
    assert not asked.withdraw_waiver("w1", by="bob", reason="", now=20)
    assert asked.waiver("w1") == row(withdrawn_by="cleo", withdrawn_at=15, withdraw_reason="not needed")
    assert told(asked) == [("waiver_asked", "ann"), ("waiver_withdrawn", "cleo")]


def test_one_that_is_in_force_can_be_withdrawn_and_asked_for_again(asked: SqlStore) -> None:
    assert asked.confirm_waiver("w1", by="bob", reason="agreed", now=20)
    assert asked.withdraw_waiver("w1", by="ann", reason="", now=30)
    assert asked.ask_waiver(row("w2", asked_at=31))


def test_what_nobody_has_asked_for_is_neither_confirmed_nor_withdrawn(store: SqlStore) -> None:
    assert store.waiver("w9") is None
    assert not store.confirm_waiver("w9", by="bob", reason="x", now=1)
    assert not store.withdraw_waiver("w9", by="bob", reason="x", now=1)


def test_of_two_persons_who_confirm_at_once_one_has(asked: SqlStore) -> None:
    with ThreadPoolExecutor() as pool:
        answers = list(
            pool.map(lambda who: asked.confirm_waiver("w1", by=who, reason="agreed", now=20), ["bob", "cleo"])
        )
    assert sorted(answers) == [False, True]
    assert len(told(asked)) == 2


def test_of_two_who_ask_at_once_one_is_kept(store: SqlStore) -> None:
    store.create_run(new_run())
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda ident: store.ask_waiver(row(ident)), ["w1", "w2"]))
    assert sorted(answers) == [False, True]
    assert len(store.waivers(RUN)) == 1


def test_a_decision_sees_the_waivers_of_its_run_alone(asked: SqlStore) -> None:
    asked.create_run(new_run(run_id="other"))
    asked.ask_waiver(row("w0", run_id="other"))
    lease = asked.acquire(RUN, owner="w", ttl=TTL)
    assert lease is not None
    with asked.deciding(lease, ttl=TTL) as tx:
        assert tx.waivers() == [row()]


def test_what_waits_of_the_run_is_looked_at_again(asked: SqlStore) -> None:
    waiting = stage_of(asked, 0)._replace(state="AWAITING_DECISION", due_at=None)
    apply(asked, Changes(stages=[waiting]))
    asked.confirm_waiver("w1", by="bob", reason="agreed", now=20)
    assert stage_of(asked, 0).due_at == 20
    assert run_of(asked).due_at == 0
