"""What a process carries over a network by itself: rows from the first, one end each, whoever dies in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from traffic_kit import Yard, item

from broker.clock import micros
from broker.traffic.direct import LOOK_EVERY
from broker.traffic.rows import TransferRow
from connectors.model import Origin, Transfer, TransferItem, TransferState, TransferStatus
from policies.model import Reason

ACTIVE, DONE, FAILED = TransferState.ACTIVE, TransferState.SUCCEEDED, TransferState.FAILED


@pytest.fixture
def yard() -> Yard:
    return Yard(scheduled=False)


def the(yard: Yard) -> TransferRow:
    (row,) = yard.transfers()
    return row


def dark(side: str) -> TransferStatus:
    return TransferStatus(key="", state=FAILED, fault="site", site=side, reason=f"{side} is dark")


def failing(yard: Yard, monkeypatch: pytest.MonkeyPatch, told: Callable[[Transfer], TransferStatus | None]) -> None:
    """The relay fails where `told` has an answer."""
    real, asked = yard.relay.status, yard.relay.asked

    def status(keys: list[str]) -> dict[str, TransferStatus]:
        found = dict(real(keys))
        for given in asked:
            if given.key in found and (bad := told(given)) is not None:
                found[given.key] = replace(bad, key=given.key)
        return found

    monkeypatch.setattr(yard.relay, "status", status)


# -- rows ------------------------------------------------------------------------------------------------


def test_it_is_written_down_before_the_mover_is_asked(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.put("east", "from/a")
    before: list[tuple[str, str]] = []
    real = yard.relay.submit

    def submit(transfers: list[Transfer]) -> object:
        before.extend((row.key, row.state) for row in yard.transfers())
        return real(transfers)

    monkeypatch.setattr(yard.relay, "submit", submit)
    yard.ask("m")
    assert before == [(yard.movement("m").transfer, "begun")]


def test_progress_and_end_are_recorded_when_somebody_asks(yard: Yard) -> None:
    yard.put("east", "from/a", b"x" * 1000)
    yard.ask("m")
    yard.clock.advance(5.0)
    assert yard.state("m") is ACTIVE
    assert (the(yard).state, the(yard).moved) == ("active", 500)
    yard.clock.advance(5.0)
    assert yard.state("m") is DONE
    assert (the(yard).state, the(yard).moved, the(yard).open) == ("succeeded", 1000, 0)
    assert yard.movement("m").moved == 1000


def test_the_process_that_carries_it_sees_its_end_by_itself(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    yard.clock.advance(10.0)
    yard.desk.direct.tend()
    assert the(yard).state == "succeeded"


def test_the_way_is_learned_the_copies_are_catalogued_and_both_sides_were_seen_to_work(yard: Yard) -> None:
    digest = yard.put("east", "from/a")
    yard.ask("m", item("a", sha256=digest, size=5))
    yard.clock.advance(10.0)
    yard.state("m")
    (link,) = yard.db.traffic.links()
    assert (link.source, link.destination, link.mover, link.samples) == ("east", "west", "relay", 1)
    assert ("east", "west", "relay") in yard.desk.turn.learned()
    copies = yard.db.traffic.replicas([digest])[digest]
    assert {(copy.side, copy.path, copy.state) for copy in copies} == {
        ("east", "from/a", "available"),
        ("west", "to/a", "available"),
    }
    assert [one[2:4] for side in ("east", "west") for one in yard.db.evidence(side)] == [("transfer", True)] * 2


def test_an_end_teaches_once_however_many_ask(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    yard.clock.advance(10.0)
    for _ in range(3):
        yard.state("m")
        yard.desk.direct.tend()
    assert [link.samples for link in yard.db.traffic.links()] == [1]


def test_asked_for_twice_it_is_carried_once(yard: Yard) -> None:
    yard.put("east", "from/a")
    for _ in range(3):
        yard.ask("m")
    assert len(yard.relay.asked) == 1


# -- failures --------------------------------------------------------------------------------------------


def test_what_failed_begins_again_on_the_same_row_under_the_same_key(yard: Yard) -> None:
    yard.ask("m")
    assert yard.desk.status(["m"])["m"].fault == "staging"
    assert the(yard).state == "failed"
    yard.put("east", "from/a")
    yard.ask("m")
    assert (the(yard).state, the(yard).reason, the(yard).ended_at) == ("active", "", None)
    yard.clock.advance(10.0)
    assert yard.state("m") is DONE
    assert {one.key for one in yard.relay.asked} == {the(yard).key}


def test_an_unsafe_path_fails_as_the_documents_fault(yard: Yard) -> None:
    yard.ask("m", TransferItem(source="../a", destination="to/a"))
    status = yard.desk.status(["m"])["m"]
    assert (status.state, status.fault) == (FAILED, "application")
    assert yard.db.traffic.open_transfers() == []


def test_a_side_that_is_away_is_gone_around_with_no_service_to_plan_it(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in ("east", "north"):
        yard.put(side, "from/a")
    failing(yard, monkeypatch, lambda given: dark("east") if given.source_site == "east" else None)
    given = Transfer(
        key="m",
        source_site="east",
        destination_site="west",
        items=(item("a"),),
        others=(Origin(site="north", items=(item("a"),)),),
    )
    yard.desk.submit([given])
    for _ in range(20):
        yard.clock.advance(1.0)
        yard.state("m")
    assert yard.state("m") is DONE
    assert yard.movement("m").taken_from == "north"
    assert [one[2:4] for one in yard.db.evidence("east")] == [("transfer", False)]


def test_a_damaged_copy_is_suspect_then_bad(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = yard.put("east", "from/a")
    damaged = TransferStatus(key="", state=FAILED, fault="staging", site="east", reason="corrupt: from/a")
    failing(yard, monkeypatch, lambda _: damaged)
    yard.ask("m", item("a", sha256=digest, size=5))
    states = [row.state for row in yard.db.traffic.replicas([digest])[digest]]
    while yard.state("m") is ACTIVE:
        yard.clock.advance(1.0)
    states += [row.state for row in yard.db.traffic.replicas([digest])[digest]]
    assert states == ["suspect", "bad"]
    assert yard.db.traffic.open_transfers() == []


def test_of_several_files_only_the_missing_one_is_lost(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = yard.put("east", "from/a", b"1"), yard.put("east", "from/b", b"2")
    gone = TransferStatus(
        key="", state=FAILED, fault="staging", site="east", reason="source missing: from/b", bad_items=("from/b",)
    )
    failing(yard, monkeypatch, lambda _: gone)
    yard.ask("m", item("a", sha256=one, size=1), item("b", sha256=two, size=1))
    assert yard.state("m") is FAILED
    found = yard.db.traffic.replicas([one, two])
    assert [(row.side, row.path, row.state) for rows in found.values() for row in rows] == [("east", "from/b", "lost")]


def test_where_nobody_can_tell_which_file_is_missing_none_is_lost(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = yard.put("east", "from/a", b"1"), yard.put("east", "from/b", b"2")
    gone = TransferStatus(key="", state=FAILED, fault="staging", site="east", reason="source missing: some file")
    failing(yard, monkeypatch, lambda _: gone)
    yard.ask("m", item("a", sha256=one, size=1), item("b", sha256=two, size=1))
    assert yard.state("m") is FAILED
    assert yard.db.traffic.replicas([one, two]) == {}


def test_what_is_spoiled_on_arrival_says_nothing_against_its_copy(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = yard.put("east", "from/a")
    spoiled = TransferStatus(key="", state=FAILED, fault="staging", site="west", reason="corrupt: not intact")
    failing(yard, monkeypatch, lambda _: spoiled)
    yard.ask("m", item("a", sha256=digest, size=5))
    while yard.state("m") is ACTIVE:
        yard.clock.advance(1.0)
    assert yard.db.traffic.replicas([digest]) == {}


# -- ending ----------------------------------------------------------------------------------------------


def test_a_cancel_ends_it_and_is_confirmed_at_once(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    assert yard.desk.cancel(["m"]) == {"m": True}
    assert (the(yard).state, the(yard).open) == ("canceled", 0)
    yard.clock.advance(60.0)
    assert not yard.sites["west"].list("to")


def test_what_an_operator_cancels_ends_with_the_next_sweep_and_the_reason(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    yard.db.traffic.ask_to_cancel(the(yard).key, reason="canceled by ada")
    yard.desk.direct.tend()
    status = yard.desk.status(["m"])["m"]
    assert (status.state, status.reason) == (FAILED, "canceled by ada")
    yard.clock.advance(60.0)
    assert not yard.sites["west"].list("to")


def test_a_cancel_is_not_taken_back_by_progress_that_was_seen_before_it(yard: Yard) -> None:
    yard.put("east", "from/a", b"x" * 1000)
    yard.ask("m")
    yard.clock.advance(5.0)
    real = yard.relay.status
    key = the(yard).key

    def status(keys: list[str]) -> object:
        yard.db.traffic.ask_to_cancel(key, reason="canceled by ada")
        return real(keys)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yard.relay, "status", status)
        yard.state("m")
    assert the(yard).state == "canceling"


def test_what_nobody_wants_any_more_is_ended_by_who_carries_it(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m", about="stage_in:gone")
    yard.desk.direct.tend()
    assert (the(yard).state, yard.movement("m").state) == ("canceled", "canceled")
    assert yard.relay.canceled == [the(yard).key]


# -- other processes ---------------------------------------------------------------------------------------


def test_who_asks_for_what_a_dead_process_carried_takes_it_over_under_the_same_key(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    first = the(yard)
    yard.next_process()
    assert yard.state("m") is ACTIVE
    assert [one.key for one in yard.relay.asked] == [first.key]
    assert the(yard).native_id == "next"
    yard.clock.advance(10.0)
    assert yard.state("m") is DONE


def test_what_a_living_process_carries_is_left_to_it(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    carrier, relay = yard.desk, yard.relay
    yard.next_process(lives=lambda _: True)
    assert yard.state("m") is ACTIVE
    assert yard.relay.asked == []
    assert yard.desk.cancel(["m"]) == {"m": False}
    carrier.direct.tend()
    assert yard.desk.cancel(["m"]) == {"m": True}
    assert relay.canceled == [the(yard).key]


def test_what_a_dead_process_left_and_nobody_wants_is_closed_within_a_minute(yard: Yard) -> None:
    yard.put("east", "from/a")
    lost = yard.desk
    yard.next_process()
    yard.desk.direct.tend()
    lost.submit([Transfer(key="m", source_site="east", destination_site="west", items=(item("a"),), about="x")])
    yard.clock.advance(LOOK_EVERY)
    yard.desk.direct.tend()
    assert yard.db.traffic.open_transfers() == []
    assert yard.movement("m").state == "canceled"


def test_who_was_taken_for_dead_stops_what_others_have_closed(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    slow, relay = yard.desk, yard.relay
    yard.next_process()
    assert yard.desk.cancel(["m"]) == {"m": True}
    slow.direct.tend()
    assert relay.canceled == [the(yard).key]
    yard.clock.advance(60.0)
    relay.advance(yard.clock())
    assert not yard.sites["west"].list("to")


def test_an_end_of_the_process_is_nobodys_failure(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    yard.desk.close()
    yard.relay.cancel([the(yard).key])
    yard.desk.direct.tend()
    assert the(yard).open


@pytest.mark.parametrize("step", ["carry", "submit", "asked", "record"])
def test_a_process_that_dies_at_any_step_leaves_what_another_one_ends(
    yard: Yard, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.put("east", "from/a")

    class Died(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        if step == "carry":
            real = yard.db.traffic.carry
            patch.setattr(yard.db.traffic, "carry", lambda given: (real(given), die()))
        elif step == "submit":
            patch.setattr(yard.relay, "submit", die)
        elif step == "asked":
            asked = yard.relay.submit
            patch.setattr(yard.relay, "submit", lambda transfers: (asked(transfers), die())[0])
        else:
            patch.setattr(yard.db.traffic, "record", die)
        with pytest.raises(Died):
            yard.ask("m")
    yard.next_process()
    yard.state("m")
    yard.clock.advance(10.0)
    assert yard.state("m") is DONE
    assert len(yard.transfers()) == 1
    assert [link.samples for link in yard.db.traffic.links()] == [1]


# -- what it costs -----------------------------------------------------------------------------------------


def test_while_nothing_is_carried_a_sweep_asks_the_store_nothing(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.desk.direct.tend()
    looked: list[int] = []
    monkeypatch.setattr(yard.db.traffic, "open_transfers", lambda: looked.append(yard.clock()) or [])
    for _ in range(100):
        yard.clock.advance(1.0)
        yard.desk.direct.tend()
    assert len(looked) == 1
    assert looked[0] - micros(LOOK_EVERY) <= yard.clock()


def test_where_only_copies_are_made_it_never_asks_the_store(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.put("east", "from/a")
    yard.relay.crosses_network = False
    yard.desk = yard.new_desk()
    monkeypatch.setattr(yard.desk, "_store", None)
    monkeypatch.setattr(yard.desk.direct, "_traffic", None)
    yard.ask("m")
    yard.clock.advance(10.0)
    assert yard.state("m") is DONE
    yard.desk.direct.tend()
    assert not yard.desk.turn.due()


def test_what_goes_on_costs_no_question_for_each(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(20):
        yard.put("east", f"from/{n}")
        yard.ask(f"m{n}", item(str(n)))
    asked: list[str] = []
    real = yard.db.traffic.carried_by
    monkeypatch.setattr(yard.db.traffic, "carried_by", lambda key: asked.append(key) or real(key))
    yard.desk.direct.tend()
    assert asked == []
    yard.clock.advance(10.0)
    yard.desk.direct.tend()
    assert len(asked) == 20
    assert {link.samples for link in yard.db.traffic.links()} == {20}


def test_what_a_rule_is_against_by_then_is_not_taken_over(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    reason = Reason("data.stay", "refused", "the data stays at east", "west")
    yard.next_process(against=lambda rows: {row.key: reason for row in rows})
    status = yard.desk.status(["m"])["m"]
    assert (status.state, status.fault) == (FAILED, "policy")
    assert yard.relay.asked == []
    assert (the(yard).state, the(yard).fault) == ("failed", "policy")
