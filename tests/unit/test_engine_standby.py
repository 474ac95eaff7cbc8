"""Inputs sent ahead over simulated sites: when they leave, that a failover finds them there, and that they go again."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, site

from broker.audit import audit_run
from broker.cli.checkpoints import checkpoints_text
from broker.cli.telling import sentence
from broker.clock import micros
from broker.config import Settings
from broker.service import Service
from connectors.model import Transfer
from policies.model import Decision
from sandbox.blob import Blob
from sandbox.faults import Partition, SiteLost, TransferOdds

HOUR = 3600.0
SIZE = 5_000_000


def lab_of(*, losses_every: float = 6 * HOUR, others: tuple[str, ...] = ("alcf",), **more: Any) -> Lab:
    """nersc, and who could take over; what is read lies in the place `data`, and takes 25 s from there."""
    lab = Lab(site("nersc", losses_every=losses_every), *(site(name) for name in others), places=("data",), **more)
    lab.stored["data"].put("raw/scan", Blob(b"x", SIZE), lab.clock())
    lab.mover._latency, lab.mover._bandwidth = 20.0, 1_000_000.0
    return lab


def begin(lab: Lab, *, seconds: float = 3600, ship: str = "auto", **more: Any) -> str:
    rules: dict[str, Any] = {
        "checkpoint": {**CHECKPOINT, "ship": ship},
        "sites": {"prefer": ["nersc"]},
        "resources": {"walltime": 1.2 * seconds},
        **more,
    }
    words = f"seconds={seconds} checkpoint_every=100 outputs=volume:10"
    return lab.submit(Stage("recon", words, outputs=["volume"], places=[("scan", ["data:raw/scan"])], rules=rules))


def effects(lab: Lab, run: str, kind: str = "ahead") -> list[Any]:
    return [row for row in lab.store.effects(run) if row.kind == kind]


def told(lab: Lab, run: str) -> list[str]:
    return [sentence(event) for event in lab.store.events(run) if event.kind == "inputs"]


def ahead(lab: Lab, at: str = "alcf") -> set[str]:
    return {path for path, _ in lab.sites[at].model.disk.files_below("inputs")}


def brought(lab: Lab, attempt: Any) -> list[Transfer]:
    """What was moved for the start of an attempt, apart from its checkpoint."""
    start = f"{attempt.submit_key}-in-"
    asked = [errand.transfer for key, errand in lab.world.errands.items() if key.startswith(start)]
    return [one for one in asked if not any("restore" in item.destination for item in one.items)]


def looked(lab: Lab, run: str) -> list[Any]:
    sites: Any = SimpleNamespace(configs=lab.configs)
    service = Service(settings=Settings(home="home", user="ann"), store=lab.store, sites=sites, clock=lab.clock)  # type: ignore[arg-type]
    return service.checkpoints(run)


def lose(lab: Lab, at: str = "nersc") -> None:
    lab.sites[at].model.inject(SiteLost(start=lab.clock()))


# -- sent ----------------------------------------------------------------------------------------------------------


def test_the_inputs_follow_the_first_checkpoint_and_the_reason_is_told_once() -> None:
    lab = lab_of()
    run = begin(lab)
    lab.run_for(1500, step=20)
    (order,) = effects(lab, run)
    assert (order.site, order.state, json.loads(order.outcome)["arrived"]) == ("alcf", "done", True)
    assert len(ahead(lab)) == 1
    (words,) = told(lab, run)
    assert words.startswith("inputs sent ahead to alcf: nersc is lost every 6 h, and the stage may run for 70 min yet")
    assert "5 MB take 30 s to alcf" in words


def test_what_does_not_pay_stays_and_the_copy_of_the_checkpoint_says_why() -> None:
    lab = lab_of(losses_every=90 * 24 * HOUR)
    run = begin(lab)
    lab.run_for(400)
    assert effects(lab, run) == []
    (sent,) = [
        Decision.from_json(d.detail) for d in lab.store.decisions(run) if (d.kind, d.outcome) == ("ship", "ship")
    ]
    (why,) = [reason for reason in sent.reasons if reason.rule == "inputs"]
    assert why.fact.startswith("no inputs are sent ahead: 5 MB take 30 s to alcf")
    assert sent.reasons[-1].rule == "first"


def test_announced_maintenance_that_the_stage_may_not_outrun_pays_for_sure() -> None:
    lab = lab_of(losses_every=90 * 24 * HOUR)
    lab.broker.world.windows["nersc"] = lab.clock() + micros(HOUR / 2)
    run = begin(lab)
    lab.run_for(400)
    (words,) = told(lab, run)
    assert words.startswith("inputs sent ahead to alcf: announced maintenance of nersc begins in")


def test_nothing_is_sent_where_the_document_sends_no_checkpoints_or_nobody_may_take_over() -> None:
    for more in ({"ship": "never"}, {"data": {"export_control": False, "stay": ["nersc"]}}):
        lab = lab_of()
        run = begin(lab, **more)
        lab.run_for(400)
        assert effects(lab, run) == []


def test_a_stage_that_takes_no_files_has_nothing_sent() -> None:
    lab = lab_of()
    run = lab.submit(Stage("a", "seconds=4000 checkpoint_every=100", rules={"checkpoint": CHECKPOINT}))
    lab.run_for(400)
    assert effects(lab, run) == []
    decisions = [Decision.from_json(d.detail) for d in lab.store.decisions(run) if d.kind == "ship"]
    assert not [reason for d in decisions for reason in d.reasons if reason.rule == "inputs"]


def test_the_work_at_risk_is_the_same_and_the_standby_site_is_shown() -> None:
    lab = lab_of()
    run = begin(lab)
    while not effects(lab, run):
        lab.step(5)
    (view,) = looked(lab, run)
    assert view["inputs"][0]["state"] == "under way"
    assert "recon: inputs: on their way to alcf" in checkpoints_text([view])
    lab.run_for(200)
    (view,) = looked(lab, run)
    assert view["inputs"][0]["arrived_at"] > view["inputs"][0]["ordered_at"]
    assert "recon: inputs: at alcf" in checkpoints_text([view])
    assert "goes on from checkpoint 1, read from alcf" in view["at_risk"]["words"]
    assert lab.finish(run, step=60) == "SUCCEEDED"
    (view,) = looked(lab, run)
    assert [one["state"] for one in view["inputs"]] == ["removed"]
    assert "inputs" not in checkpoints_text([view])


# -- used ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["simulated", "service", "direct"])
def test_a_failover_finds_its_inputs_there_and_none_is_brought(how: str) -> None:
    lab = lab_of(**({how: True} if how != "simulated" else {}))
    run = begin(lab)
    lab.run_for(1000)
    lose(lab)
    assert lab.finish(run, step=15) == "SUCCEEDED"
    first, second = lab.attempts(run, "recon")
    assert (first.site, second.site) == ("nersc", "alcf")
    if how == "simulated":
        (moved,) = brought(lab, second)
        assert (moved.source_site, moved.key[-6:]) == ("alcf", "-ahead")
    else:
        rows = [row for row in lab.store.traffic.movements_of(run) if row.attempt == 2 and "-in-" in row.key]
        assert {row.source for row in rows if "scan" in row.items} == {"alcf"}
        assert [(row.source, row.state) for row in lab.store.traffic.movements_of(run) if row.key.startswith("in")] == [
            ("data:", "succeeded")
        ]
    assert [str(found) for found in audit_run(lab.store, run)] == []
    lab.run_for(120)
    assert ahead(lab) == set()


def test_what_was_sent_and_lost_since_comes_from_where_it_lies() -> None:
    lab = lab_of()
    run = begin(lab)
    lab.run_for(1000)
    lab.sites["alcf"].remove(sorted(ahead(lab)))
    lose(lab)
    assert lab.finish(run, step=15) == "SUCCEEDED"
    moved = brought(lab, lab.attempts(run, "recon")[1])
    assert [one.source_site for one in moved] == ["alcf", "data:"]


def test_a_failover_before_they_have_arrived_waits_for_nothing() -> None:
    lab = lab_of()
    run = begin(lab)
    while not effects(lab, run):
        lab.step(5)
    lab.mover._odds = TransferOdds()
    for errand in lab.world.errands.values():
        if errand.transfer.key.startswith("in"):
            errand.due_at = None  # it never arrives
    lab.run_for(200)
    lose(lab)
    assert lab.finish(run, step=15) == "SUCCEEDED"
    (order,) = effects(lab, run)
    assert order.state in ("dropped", "done")
    assert [one.source_site for one in brought(lab, lab.attempts(run, "recon")[1])] == ["data:"]


# -- failing, ending -----------------------------------------------------------------------------------------------


def test_what_did_not_arrive_is_tried_once_more_and_no_more() -> None:
    lab = lab_of()
    run = begin(lab, ship="always")
    lab.run_for(90)
    lab.mover._odds = TransferOdds(corrupt=1.0)
    lab.run_for(1500, step=10)
    assert [json.loads(order.outcome)["arrived"] for order in effects(lab, run)] == [False, False]
    (view,) = looked(lab, run)
    assert "not at alcf (" in checkpoints_text([view])
    lab.mover._odds = TransferOdds()
    assert lab.finish(run, step=30) == "SUCCEEDED"


def test_a_run_that_ends_while_they_are_on_their_way_ends_at_once_and_leaves_nothing() -> None:
    lab = lab_of()
    run = begin(lab)
    while not effects(lab, run):
        lab.step(5)
    for errand in lab.world.errands.values():
        if errand.transfer.key.startswith("in"):
            errand.due_at = lab.clock() + micros(9000)
    lab.command(run, "cancel")
    assert lab.finish(run, limit=300) == "CANCELED"
    lab.run_for(20_000, step=60)
    assert [row.state for row in effects(lab, run, "recall")] == ["done"]
    assert [row for row in lab.store.effects(run) if row.state == "pending"] == []
    assert ahead(lab) == set()
    assert [str(found) for found in audit_run(lab.store, run)] == []


def test_a_dark_standby_site_holds_up_no_end_and_is_cleaned_when_it_answers() -> None:
    lab = lab_of()
    run = begin(lab, seconds=600)
    lab.run_for(500)
    lab.sites["alcf"].model.inject(Partition(start=lab.clock(), end=lab.clock() + micros(5000)))
    assert lab.finish(run, limit=1000) == "SUCCEEDED"
    assert ahead(lab)
    lab.run_for(6000, step=30)
    assert ahead(lab) == set()


def test_a_stage_that_is_retried_after_its_end_is_stood_by_for_again() -> None:
    lab = lab_of()
    words = "seconds=900 checkpoint_every=100 exit=3"
    rules = {"checkpoint": CHECKPOINT, "sites": {"prefer": ["nersc"]}, "resources": {"walltime": 7200.0}}
    run = lab.submit(Stage("recon", words, places=[("scan", ["data:raw/scan"])], rules=rules))
    assert lab.finish(run, step=10) == "FAILED"
    lab.run_for(60)
    lab.command(run, "retry", "recon")
    lab.run_for(60)
    assert lab.finish(run, step=10) == "FAILED"
    lab.run_for(60)
    assert len(effects(lab, run)) == len(effects(lab, run, "recall")) == 2
    assert ahead(lab) == set()
    assert [str(found) for found in audit_run(lab.store, run)] == []


def test_a_look_asks_for_no_orders_before_a_copy_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    from broker.store.deciding import Decision as Deciding

    asked: list[Any] = []
    own = Deciding.effects
    monkeypatch.setattr(Deciding, "effects", lambda self, keys: asked.append(keys) or own(self, keys))
    lab = lab_of()
    run = begin(lab)
    lab.run_for(95)
    assert asked == []
    lab.run_for(100)
    assert asked
    assert all(len(keys) == 4 for keys in asked)
    assert effects(lab, run)
