"""The desk: what is wanted becomes transfers, few of them, each settled once, whatever dies in between."""

from __future__ import annotations

from dataclasses import replace

import pytest
from traffic_kit import Yard, item

from broker.clock import micros
from broker.traffic import Desk
from broker.traffic.beginning import Against
from broker.traffic.rows import ReplicaRow, TrafficSeen
from broker.traffic.turn import QUICK, SLOWER
from connectors.errors import CredentialError, SiteUnreachable
from connectors.model import Accepted, Origin, Refused, Transfer, TransferState, TransferStatus
from policies.model import Reason

ACTIVE, DONE, FAILED, HELD = (
    TransferState.ACTIVE,
    TransferState.SUCCEEDED,
    TransferState.FAILED,
    TransferState.HELD,
)


@pytest.fixture
def yard() -> Yard:
    return Yard()


# -- together --------------------------------------------------------------------------------------------


def test_a_thousand_stages_small_files_are_few_transfers(yard: Yard) -> None:
    for n in range(1_000):
        yard.put("east", f"from/{n}", b"%d" % n)
    for n in range(1_000):
        yard.ask(f"m{n}", item(str(n)))
        if n in (0, 300):
            yard.turn(after=1.0)
    yard.turns(60)
    assert all(yard.state(f"m{n}") is DONE for n in range(1_000))
    assert yard.read("west", "to/999") == b"999"
    assert len(yard.transfers()) <= 4
    assert len(yard.service.asked) == len(yard.transfers())


def test_one_status_call_a_turn_however_many_transfers(yard: Yard) -> None:
    for n, (source, to) in enumerate([("east", "west"), ("west", "north"), ("north", "east")]):
        yard.put(source, f"from/{n}")
        yard.ask(f"m{n}", item(str(n)), source=source, to=to, urgent=True)
    yard.turn()
    assert len(yard.transfers()) == 3
    before = yard.service.status_calls
    yard.turn(after=2.0)
    assert yard.service.status_calls == before + 1


def test_a_service_is_asked_less_often_while_nothing_changes(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.service._latency = 10_000
    yard.ask("m")
    yard.turns(600)
    assert yard.service.status_calls < 600 / (QUICK * SLOWER) + 12


def test_whoever_asked_is_called_when_it_ends_and_need_not_ask(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m", about="stage_in:x")
    assert yard.desk.status(["m"])["m"].calls_back


def test_two_files_for_one_destination_are_refused(yard: Yard) -> None:
    twice = (item("a", destination="to/x"), item("b", destination="to/x"))
    answer = yard.desk.submit([Transfer(key="m", source_site="east", destination_site="west", items=twice)])["m"]
    assert isinstance(answer, Refused)
    assert answer.reason == "two files would become west's to/x"


def test_two_movements_to_one_name_go_one_after_the_other(yard: Yard) -> None:
    for name in "ab":
        yard.put("east", f"from/{name}", name.encode())
        yard.ask(name, item(name, destination="to/x"))
    yard.turns(60)
    assert [yard.state(name) for name in "ab"] == [DONE, DONE]
    assert len(yard.transfers()) == 2


# -- the way ---------------------------------------------------------------------------------------------


def test_what_no_service_reaches_is_carried_at_once(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.service.refused = {"east"}
    yard.ask("m")
    assert yard.state("m") is DONE
    assert [(row.mover, row.state) for row in yard.transfers()] == [("relay", "succeeded")]


def test_what_is_copied_within_this_machine_leaves_no_row(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.relay.crosses_network = False
    yard.service.refused = {"east"}
    yard.desk = yard.new_desk()
    yard.ask("m")
    assert yard.state("m") is DONE
    assert yard.db.traffic.movements(["m"]) == {}


def test_with_no_way_at_all_it_is_refused_with_every_reason(yard: Yard) -> None:
    yard.service.refused, yard.relay.most = {"east"}, 10
    given = Transfer(key="m", source_site="east", destination_site="west", items=(item("a", size=100),))
    answer = yard.desk.submit([given])["m"]
    assert isinstance(answer, Refused)
    assert answer.reason == "east has no collection; 100 bytes are too many"


def test_while_the_service_is_down_small_files_go_another_way(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.service.error = SiteUnreachable("no route to host")
    yard.ask("m")
    yard.turns(60)
    assert yard.state("m") is DONE
    assert [one.key for one in yard.relay.asked] == [yard.movement("m").transfer]
    assert yard.read("west", "to/a") == b"data\n"
    assert yard.service.asked == []


def test_what_is_too_large_for_another_way_waits_for_the_service(yard: Yard) -> None:
    digest = yard.put("east", "from/a")
    yard.relay.most = 1
    yard.service.error = SiteUnreachable("no route to host")
    yard.ask("m", item("a", size=5, sha256=digest))
    yard.turns(60)
    assert yard.state("m") is ACTIVE
    assert "globus gives no answer" in yard.movement("m").reason
    yard.service.error = None
    yard.turns(60)
    assert yard.state("m") is DONE


def test_a_side_that_is_away_is_gone_around_where_the_files_lie_elsewhere_too(yard: Yard) -> None:
    for side in ("east", "north"):
        yard.put(side, "from/a")
    yard.desk.submit(
        [
            Transfer(
                key="m",
                source_site="east",
                destination_site="west",
                items=(item("a"),),
                others=(Origin(site="north", items=(item("a"),)),),
            )
        ]
    )
    yard.turn(after=1.0)
    (first,) = yard.transfers()
    yard.service.failing[first.key] = TransferStatus(key="", state=FAILED, fault="site", site="east", reason="dark")
    yard.turns(30)
    assert yard.state("m") is DONE
    assert yard.movement("m").taken_from == "north"


def test_a_side_that_is_away_and_alone_has_it_fails_and_may_be_asked_again(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    yard.turn(after=1.0)
    (first,) = yard.transfers()
    yard.service.failing[first.key] = TransferStatus(key="", state=FAILED, fault="site", site="east", reason="dark")
    yard.turns(5)
    status = yard.desk.status(["m"])["m"]
    assert (status.state, status.fault, status.site) == (FAILED, "site", "east")
    yard.ask("m")
    yard.turns(30)
    assert yard.state("m") is DONE
    assert len(yard.transfers()) == 2


# -- a bad file ------------------------------------------------------------------------------------------


def test_a_bad_file_fails_its_own_movement_and_the_others_go_again_without_it(yard: Yard) -> None:
    for n in range(4):
        yard.put("east", f"from/{n}")
        yard.ask(f"m{n}", item(str(n)))
    yard.turn(after=1.0)
    (first,) = yard.transfers()
    yard.service.failing[first.key] = TransferStatus(
        key="", state=FAILED, fault="staging", site="east", reason="from/2 is not there", bad_items=("from/2",)
    )
    yard.turns(60)
    assert [yard.state(f"m{n}") for n in range(4)] == [DONE, DONE, FAILED, DONE]
    assert len(yard.transfers()) == 2


def test_where_nobody_can_tell_which_file_it_was_small_companies_find_it(yard: Yard) -> None:
    for n in range(40):
        if n != 17:
            yard.put("east", f"from/{n}")
        yard.ask(f"m{n}", item(str(n)))
    yard.turns(600)
    assert [n for n in range(40) if yard.state(f"m{n}") is not DONE] == [17]
    assert yard.desk.status(["m17"])["m17"].fault == "staging"
    assert len(yard.transfers()) <= 1 + 3 + 16


def test_a_copy_is_suspect_after_one_damaged_arrival_and_bad_after_two(yard: Yard) -> None:
    digest = yard.put("east", "from/a")
    yard.ask("m", item("a", sha256=digest, size=5))
    yard.service.failing["all"] = TransferStatus(
        key="", state=FAILED, fault="staging", site="east", reason="corrupt: from/a"
    )
    states: list[str] = []
    for _ in range(60):
        yard.turn(after=1.0)
        states += [row.state for row in yard.db.traffic.replicas([digest]).get(digest, ()) if row.state not in states]
    assert states == ["suspect", "bad"]
    assert yard.state("m") is FAILED


def test_a_copy_whose_file_is_missing_is_lost_and_another_one_is_taken(yard: Yard) -> None:
    digest = yard.put("east", "from/a")
    yard.put("north", "kept/a")
    asked = item("a", sha256=digest, size=5)
    yard.sites["east"].remove(["from/a"])
    others = (Origin(site="north", items=(replace(asked, source="kept/a"),)),)
    yard.desk.submit([Transfer(key="m", source_site="east", destination_site="west", items=(asked,), others=others)])
    yard.turns(60)
    assert yard.movement("m").taken_from == "north"
    found = {(row.side, row.path): row.state for row in yard.db.traffic.replicas([digest])[digest]}
    assert found == {("east", "from/a"): "lost", ("north", "kept/a"): "available", ("west", "to/a"): "available"}


def test_a_copy_of_the_catalogue_that_is_gone_is_not_tried_again_until_it_was_verified_again(yard: Yard) -> None:
    digest = yard.put("east", "from/a")
    yard.ask("m", item("a", sha256=digest, size=5))
    yard.turns(30)
    yard.sites["west"].remove(["to/a"])

    def asked(name: str) -> str:
        yard.ask(name, item("a", sha256=digest, size=5, destination=f"{name}/a"))
        yard.turns(60)
        return yard.movement(name).taken_from

    def standing() -> str:
        return next(row.state for row in yard.db.traffic.replicas([digest])[digest] if row.path == "to/a")

    assert asked("first") == "east"  # the nearer one was tried before, in vain
    assert standing() == "lost"
    # when nothing else is left it is tried all the same, and is as good as ever once it was verified
    yard.sites["east"].remove(["from/a"])
    yard.sites["west"].remove(["first/a"])
    yard.put("west", "to/a")
    back = item("a", sha256=digest, size=5, source="to/a", destination="back/a")
    yard.ask("back", back, source="west", to="north")
    yard.turns(60)
    assert standing() == "available"


def test_a_suspect_copy_is_not_used_where_there_is_another(yard: Yard) -> None:
    digest = yard.put("east", "from/a")
    yard.put("north", "kept/a")
    doubted = ReplicaRow(digest, "east", "from/a", 5, "suspect", 1, None, "it arrived damaged", "")
    yard.db.traffic.record(TrafficSeen(replicas=[doubted]), now=yard.clock())
    asked = item("a", sha256=digest, size=5)
    others = (Origin(site="north", items=(replace(asked, source="kept/a"),)),)
    yard.desk.submit([Transfer(key="m", source_site="east", destination_site="west", items=(asked,), others=others)])
    yard.turns(60)
    assert yard.movement("m").taken_from == "north"
    yard.ask("n", asked)
    yard.turns(60)
    assert yard.state("n") is DONE


# -- the catalogue -----------------------------------------------------------------------------------------


def test_a_file_that_a_side_has_already_is_not_brought_there_again(yard: Yard) -> None:
    digest = yard.put("east", "from/a")
    yard.ask("m", item("a", sha256=digest, size=5))
    yard.turns(30)
    yard.ask("again", item("a", sha256=digest, size=5, destination="other/a"))
    yard.turns(30)
    assert yard.state("again") is DONE
    assert yard.movement("again").taken_from == "west"
    assert yard.read("west", "other/a") == b"data\n"


def test_of_many_who_want_the_same_file_one_brings_it_and_the_others_take_it_from_there(yard: Yard) -> None:
    digest = yard.put("east", "from/a")
    for n in range(10):
        yard.ask(f"m{n}", item("a", sha256=digest, size=5, destination=f"to/{n}/a"))
    yard.turns(120)
    assert all(yard.state(f"m{n}") is DONE for n in range(10))
    assert sorted(yard.movement(f"m{n}").taken_from for n in range(10)) == ["east"] + ["west"] * 9
    assert len(yard.transfers()) == 2


def test_a_copy_that_its_site_may_have_purged_counts_as_gone(yard: Yard) -> None:
    digest = yard.put("east", "from/a")
    yard.desk = Desk({"globus": yard.service}, yard.db, yard.clock, horizons={"west": 100.0})
    yard.ask("m", item("a", sha256=digest, size=5))
    yard.turns(30)
    for name, after, source in (("soon", 10, "west"), ("late", 95, "east")):
        yard.clock.advance(after)
        yard.ask(name, item("a", sha256=digest, size=5, destination=f"{name}/a"))
        yard.turns(20)
        assert yard.movement(name).taken_from == source
        yard.db.traffic.record(
            TrafficSeen(replicas=[ReplicaRow(digest, "west", f"{name}/a", 5, "lost", 0, None, "", "")]), now=1
        )


def test_links_are_learned_from_what_arrived(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    yard.turns(30)
    (link,) = yard.db.traffic.links()
    assert (link.source, link.destination, link.mover, link.samples) == ("east", "west", "globus", 1)
    assert ("east", "west", "globus") in yard.desk.turn.learned()
    other = yard.new_desk()
    assert other.turn.learned() == yard.desk.turn.learned()


# -- a person ----------------------------------------------------------------------------------------------


def test_what_waits_for_a_person_says_what_helps_and_goes_on_by_itself(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    yard.service.held["any"] = ("consent is missing", "crossfade login globus")
    yard.turns(5)
    status = yard.desk.status(["m"])["m"]
    assert (status.state, status.reason, status.help) == (HELD, "consent is missing", "crossfade login globus")
    yard.service.held.clear()
    yard.turns(60)
    assert yard.state("m") is DONE


def test_a_service_that_wants_a_login_is_told_as_such_and_is_no_outage(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    yard.service.error = CredentialError("the client secret was refused")
    yard.turns(3)
    row = yard.db.traffic.movers()["globus"]
    assert row.help == CredentialError.help
    kinds = {one[2] for one in yard.db.evidence("globus")}
    assert kinds == {"credentials"}


# -- ending ------------------------------------------------------------------------------------------------


def test_a_movement_that_nobody_began_is_canceled_at_once(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    assert yard.desk.cancel(["m"]) == {"m": True}
    yard.turns(30)
    assert yard.state("m") is FAILED
    assert yard.service.asked == []


def test_one_under_way_is_canceled_when_the_service_confirms_it(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    yard.turn(after=1.0)
    assert yard.desk.cancel(["m"]) == {"m": False}
    yard.turn(after=1.0)
    assert yard.desk.cancel(["m"]) == {"m": True}
    assert yard.state("m") is FAILED
    yard.turns(60)
    assert not yard.sites["west"].list("to")


def test_one_that_goes_with_others_ends_with_them(yard: Yard) -> None:
    for name in "ab":
        yard.put("east", f"from/{name}")
        yard.ask(name, item(name))
    yard.turn(after=1.0)
    assert yard.desk.cancel(["a"]) == {"a": False}
    yard.turns(30)
    assert yard.state("b") is DONE
    assert yard.desk.cancel(["a"]) == {"a": True}


def test_what_an_operator_cancels_fails_with_the_reason(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    yard.turn(after=1.0)
    (row,) = yard.transfers()
    assert yard.db.traffic.ask_to_cancel(row.key, reason="canceled by ada: wrong beamline")
    yard.desk.turn.hasten()
    yard.turn(after=1.0)
    assert yard.desk.status(["m"])["m"].reason == "canceled by ada: wrong beamline"
    assert not yard.db.traffic.ask_to_cancel(row.key, reason="again")


# -- dying in between ----------------------------------------------------------------------------------------


def test_a_lost_answer_leads_to_the_same_transfer_not_to_a_second_one(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    yard.service.lose_answers = 1
    yard.turns(60)
    assert yard.state("m") is DONE
    assert len({one.key for one in yard.service.asked}) == 1
    assert len(yard.transfers()) == 1


@pytest.mark.parametrize("step", ["begin", "submit", "record"])
def test_a_process_that_dies_at_any_step_leaves_what_another_one_ends(
    yard: Yard, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    yard.clock.advance(1.0)

    class Died(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        if step == "begin":
            patch.setattr(yard.service, "submit", die)
        elif step == "submit":
            real = yard.service.submit
            patch.setattr(yard.service, "submit", lambda asked: (real(asked), die())[0])
        else:
            patch.setattr(yard.desk.turn._settler, "settle", die)
        with pytest.raises(Died):
            yard.turn()
    yard.desk = yard.new_desk()
    yard.turns(200)
    assert yard.state("m") is DONE
    assert len(yard.transfers()) == 1
    assert len({one.key for one in yard.service.asked}) == 1


def test_a_service_may_forget_what_the_rows_know_the_end_of(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    yard.turn(after=1.0)
    assert yard.service.forgotten == []
    yard.turns(30)
    assert yard.service.forgotten == [row.key for row in yard.transfers()]


def test_of_two_processes_one_has_the_turn(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("m")
    other = yard.new_desk()
    yard.clock.advance(1.0)
    assert yard.db.traffic.take_turn("globus", now=yard.clock(), until=yard.clock() + micros(60))
    assert other.turn.take() == set()
    assert yard.transfers() == []


def test_a_transfer_asked_for_twice_is_one(yard: Yard) -> None:
    yard.put("east", "from/a")
    for _ in range(3):
        yard.ask("m")
    answer = yard.desk.submit([Transfer(key="m", source_site="east", destination_site="west", items=(item("a"),))])["m"]
    assert isinstance(answer, Accepted)
    yard.turns(30)
    assert len(yard.transfers()) == 1


def test_nothing_is_due_where_nothing_is_wanted(yard: Yard) -> None:
    assert not yard.desk.turn.due()
    yard.put("east", "from/a")
    yard.ask("m")
    yard.clock.advance(1.0)
    assert yard.desk.turn.due()


# -- what may not be moved any more --------------------------------------------------------------------------


def against(*keys: str) -> Against:
    """A rule that is against these movements."""
    reason = Reason("data.stay", "refused", "the data stays at east", "west")
    return lambda rows: {row.key: reason for row in rows if row.key in keys}


def test_what_a_rule_is_against_by_then_is_not_begun_and_its_asker_is_told(yard: Yard) -> None:
    for name in "ab":
        yard.put("east", f"from/{name}")
        yard.ask(name, item(name))
    yard.desk = yard.new_desk(against=against("a"))
    yard.turns(60)
    status = yard.desk.status(["a", "b"])
    assert (status["a"].state, status["b"].state) == (FAILED, DONE)
    assert (status["a"].fault, status["a"].site) == ("policy", "west")
    assert status["a"].reason == "data.stay: the data stays at east"
    assert [one.key for one in yard.service.asked] == [yard.movement("b").transfer]


def test_a_transfer_that_no_service_has_heard_of_is_not_asked_for_again_when_a_rule_is_against_part_of_it(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    def die(*_: object) -> None:
        raise Died

    for name in "ab":
        yard.put("east", f"from/{name}")
        yard.ask(name, item(name))
    yard.clock.advance(1.0)
    with monkeypatch.context() as patch:
        patch.setattr(yard.service, "submit", die)
        with pytest.raises(Died):
            yard.turn()
    (begun,) = yard.transfers()
    assert begun.movements == 2
    yard.desk = yard.new_desk(against=against("a"))
    yard.turns(300)
    assert (yard.state("a"), yard.state("b")) == (FAILED, DONE)
    assert begun.key not in [one.key for one in yard.service.asked]
    closed = yard.db.traffic.transfer(begun.key)
    assert closed is not None
    assert (closed.state, closed.fault) == ("failed", "policy")
    assert not [info.path for info in yard.sites["west"].list("to") if info.path.endswith("a")]


def test_what_a_service_carries_already_is_not_asked_about(yard: Yard) -> None:
    yard.put("east", "from/a")
    yard.ask("a", item("a"))
    yard.turn(after=1.0)
    yard.desk = yard.new_desk(against=against("a"))  # whoever wanted it lets it go, and cancels it then
    yard.turns(60)
    assert yard.state("a") is DONE
