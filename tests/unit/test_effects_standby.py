"""Sending inputs ahead and removing them again: what gives way, what ends it, and that nothing else is touched."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from broker_kit import Lab, Stage, rules, site
from effects_kit import Case, Porter, placed

from broker.clock import micros
from broker.effects.carry import Carrier
from broker.effects.moving import Moving
from broker.effects.placed_inputs import PlacedInputs
from broker.effects.standby import Standby
from broker.ids import standby_key
from broker.jobs import Job
from broker.residency import Residency
from broker.store.base import EffectRow
from broker.traffic.rows import ReplicaRow, TrafficSeen, movement_of
from connectors.model import Transfer, TransferItem, TransferState, TransferStatus
from sandbox.blob import Blob

ACTIVE, DONE, UNKNOWN = TransferState.ACTIVE, TransferState.SUCCEEDED, TransferState.UNKNOWN
OWN_FILE = {"path": "in/setup.sh", "sha256": "ab" * 32, "size": 5, "mode": 0o600}
KEY = standby_key("run", 0, 1)


def case(**changes: Any) -> Case:
    """An attempt at nersc with a file of its document, and an order to send it to alcf."""
    c = placed(Lab(site("nersc"), site("alcf")), Stage("a", rules={"sites": {"prefer": ["nersc"]}}))
    body = {**json.loads(c.job.stage.body), "files": [OWN_FILE]}
    stage = c.job.stage._replace(body=json.dumps(body), **changes)
    order = c.effect._replace(key="ahead:run:0:1", kind="ahead", site="alcf", payload=json.dumps({"key": KEY}))
    return replace(c, job=Job(stage=stage, attempt=c.job.attempt), effect=order)


def room(c: Case, porter: Porter) -> Standby:
    mover: Any = porter
    residency = Residency.of(c.lab.store, c.world, c.lab.clock)
    moving = Moving(residency=residency, mover=mover, clock=c.lab.clock)
    inputs = PlacedInputs(world=c.world, places={}, clock=c.lab.clock)
    carrier = Carrier(store=c.lab.store, world=c.world, moving=moving, inputs=inputs, clock=c.lab.clock)
    return Standby(store=c.lab.store, moving=moving, asked=carrier.inbound, clock=c.lab.clock)


def sent(c: Case, porter: Porter) -> Any:
    return room(c, porter).send(c.lab.sites["alcf"], [(c.effect, c.job)])


def recalled(c: Case, porter: Porter, *, key: str = KEY, order: str = "ahead:run:0:1") -> Any:
    effect: EffectRow = c.effect._replace(kind="recall", payload=json.dumps({"key": key, "order": order}))
    return room(c, porter).recall(c.lab.sites["alcf"], [(effect, c.job)])


def outcome(result: Any) -> dict[str, Any]:
    (done,) = result.done
    found: dict[str, Any] = json.loads(done.outcome)
    return found


def wanted(c: Case, *, about: str = "stage_in:other") -> None:
    """Somebody else's files wait for a mover."""
    items = (TransferItem(source="x", destination="y"),)
    transfer = Transfer(key="k", source_site="", destination_site="alcf", items=items, label="l", about=about)
    c.lab.store.traffic.want([movement_of(transfer, run_id="r", n=0, attempt=1, now=c.lab.clock())])


# -- sending -------------------------------------------------------------------------------------------------------


def test_they_go_to_a_folder_of_their_own_and_never_by_the_urgent_lane() -> None:
    c, porter = case(), Porter(UNKNOWN, DONE)
    urgent = json.dumps(rules(lane=["urgent"]))
    c = replace(c, job=replace(c.job, stage=c.job.stage._replace(rules=urgent)))
    assert outcome(sent(c, porter))["arrived"]
    (transfer,) = porter.asked
    assert [item.destination for item in transfer.items] == [f"inputs/{KEY}/in/setup.sh"]
    assert (transfer.destination_site, transfer.urgent, transfer.about) == ("alcf", False, c.effect.key)
    assert transfer.key.startswith(f"{KEY}-in-")


def test_what_others_wait_for_goes_first() -> None:
    c, porter = case(), Porter(UNKNOWN)
    wanted(c)
    (later,) = sent(c, porter).again
    assert "other transfers go first" in later.note
    assert later.due_at == c.lab.clock() + micros(10)
    assert porter.asked == []


def test_what_is_begun_goes_on_whoever_waits() -> None:
    c, porter = case(), Porter(ACTIVE)
    wanted(c)
    (later,) = sent(c, porter).again
    assert "on its way" in later.note


def test_its_own_files_that_wait_are_no_reason_to_wait() -> None:
    c, porter = case(), Porter(UNKNOWN, ACTIVE)
    wanted(c, about=c.effect.key)
    assert "on its way" in sent(c, porter).again[0].note


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "SUCCEEDED"}, "its stage is over"),
        ({"rules": json.dumps(rules(data={"export_control": False, "stay": ["nersc"]}))}, "data.stay"),
    ],
)
def test_what_is_not_wanted_or_not_allowed_any_more_is_not_sent(changes: dict[str, Any], words: str) -> None:
    c, porter = case(**changes), Porter(UNKNOWN)
    told = outcome(sent(c, porter))
    assert not told["arrived"]
    assert words in told["reason"]
    assert porter.asked == []


def test_what_the_site_has_by_the_catalogue_is_not_sent() -> None:
    c, porter = case(), Porter(UNKNOWN)
    there = ReplicaRow("ab" * 32, "alcf", "runs/x/setup.sh", 5, "available", 0, c.lab.clock(), "", "r")
    c.lab.store.traffic.record(TrafficSeen(replicas=[there]), now=c.lab.clock())
    assert outcome(sent(c, porter)) == {"arrived": True, "bytes": 0, "transfers": 0}
    assert porter.asked == []


def test_what_failed_is_not_begun_again() -> None:
    gone = TransferStatus(key="", state=TransferState.FAILED, reason="disk full", fault="quota")
    c, porter = case(), Porter(gone)
    assert outcome(sent(c, porter)) == {"arrived": False, "reason": "disk full"}
    assert porter.asked == []


def test_one_that_waits_for_a_person_says_so() -> None:
    held = TransferStatus(key="", state=TransferState.HELD, reason="log in to alcf")
    assert "held: log in to alcf" in sent(case(), Porter(held)).again[0].note


# -- and back ------------------------------------------------------------------------------------------------------


def put(c: Case, path: str) -> None:
    c.lab.sites["alcf"].model.disk.put(path, Blob(b"x", 1))


def below(c: Case, folder: str) -> set[str]:
    return {path for path, _ in c.lab.sites["alcf"].model.disk.files_below(folder)}


def test_its_own_folder_is_emptied_and_no_other() -> None:
    c = case()
    put(c, f"inputs/{KEY}/in/setup.sh")
    put(c, "inputs/other/x")
    put(c, "runs/r/x")
    assert outcome(recalled(c, Porter(DONE))) == {"removed": 1}
    assert below(c, "inputs") == {"inputs/other/x"}
    assert below(c, "runs") == {"runs/r/x"}


@pytest.mark.parametrize("key", ["", "..", "../runs", "a/../../runs", "A B"])
def test_whatever_a_row_says_nothing_outside_is_removed(key: str) -> None:
    c = case()
    put(c, "inputs/other/x")
    put(c, "runs/r/x")
    assert outcome(recalled(c, Porter(DONE), key=key)) == {"removed": 0}
    assert below(c, "inputs") == {"inputs/other/x"}
    assert below(c, "runs") == {"runs/r/x"}


def test_nothing_is_removed_while_the_mover_may_still_write() -> None:
    class Busy(Porter):
        def cancel(self, keys: Any) -> dict[str, bool]:
            return dict.fromkeys(keys, False)

    c = case()
    put(c, f"inputs/{KEY}/in/setup.sh")
    (later,) = recalled(c, Busy(ACTIVE)).again
    assert "being stopped" in later.note
    assert below(c, "inputs")


def test_nothing_is_removed_while_somebody_may_begin_it() -> None:
    c = case()
    pending = next(effect.key for effect in c.lab.store.effects(c.run) if effect.state == "pending")
    (later,) = recalled(c, Porter(ACTIVE), order=pending).again
    assert "somebody still looks after" in later.note


def test_the_catalogue_does_not_look_for_them_there_any_more() -> None:
    c = case()
    traffic = c.lab.store.traffic
    path = f"inputs/{KEY}/in/setup.sh"
    rows = [ReplicaRow("ab" * 32, "alcf", at, 5, "available", 0, c.lab.clock(), "", "r") for at in (path, "other")]
    traffic.record(TrafficSeen(replicas=rows), now=c.lab.clock())
    recalled(c, Porter(DONE))
    known = {row.path: row.state for row in traffic.replicas(["ab" * 32])["ab" * 32]}
    assert known == {path: "lost", "other": "available"}
