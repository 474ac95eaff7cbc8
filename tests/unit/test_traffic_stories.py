"""Whole runs whose files go by a service: batches, persons, outages, and stages that end before their files arrive."""

from __future__ import annotations

import json

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, site
from scheduled_kit import Service

from broker.clock import micros
from connectors.errors import SiteUnreachable
from policies.model import Decision
from sandbox.faults import Partition, SiteLost


@pytest.fixture
def lab() -> Lab:
    return Lab(site("nersc", slots=200), site("alcf", slots=200), service=True)


def service(lab: Lab) -> Service:
    assert isinstance(lab.mover, Service)
    return lab.mover


def at(name: str) -> dict[str, object]:
    return {"sites": {"allow": [name]}}


def fan(width: int) -> list[Stage]:
    makes = [
        Stage(f"make{n}", f"seconds=5 outputs=o{n}:10", outputs=[f"o{n}"], rules=at("nersc")) for n in range(width)
    ]
    uses = [Stage(f"use{n}", "seconds=5", inputs=[(f"o{n}", f"make{n}")], rules=at("alcf")) for n in range(width)]
    return [*makes, *uses]


def test_inputs_of_many_stages_go_together(lab: Lab) -> None:
    run = lab.submit(*fan(100))
    assert lab.finish(run, step=1.0) == "SUCCEEDED"
    assert len(lab.store.traffic.transfers(run_id=run)) <= 4
    assert len(lab.store.traffic.movements_of(run)) == 100
    for n in range(100):
        (attempt,) = lab.attempts(run, f"use{n}")
        assert len(lab.sites["alcf"].read(f"{attempt.directory}/o{n}")) == 10


def test_a_stage_is_not_asked_about_while_its_files_are_under_way(lab: Lab) -> None:
    service(lab)._latency = 600.0
    run = lab.submit(*fan(1))
    lab.run_for(300.0)
    effect = next(e for e in lab.store.effects(run) if e.kind == "stage_in")
    assert effect.tries < 20
    assert lab.finish(run) == "SUCCEEDED"


def test_a_missing_consent_asks_a_person_and_names_the_command(lab: Lab) -> None:
    service(lab).held["any"] = ("consent for alcf's collection is missing", "crossfade login globus --consent c1")
    run = lab.submit(*fan(1))
    lab.run_for(60.0)
    stage = lab.stage(run, "use0")
    assert stage.state == "AWAITING_DECISION"
    assert "consent for alcf's collection is missing" in stage.reason
    assert "crossfade login globus --consent c1" in stage.reason
    asked = [e for e in lab.store.events(run) if e.kind == "asks"]
    assert len(asked) == 1
    told = [Decision.from_json(row.detail) for row in lab.store.decisions(run, stage.n) if row.kind == "transfer"]
    assert told[0].outcome == "ask"


def test_when_the_person_has_acted_the_stage_goes_on_by_itself(lab: Lab) -> None:
    service(lab).held["any"] = ("consent is missing", "crossfade login globus")
    run = lab.submit(*fan(1))
    lab.run_for(60.0)
    service(lab).held.clear()
    assert lab.finish(run) == "SUCCEEDED"
    assert [a.number for a in lab.attempts(run, "use0")] == [1]


def test_a_person_who_cancels_instead_ends_the_transfer_too(lab: Lab) -> None:
    service(lab).held["any"] = ("consent is missing", "crossfade login globus")
    run = lab.submit(*fan(1))
    lab.run_for(60.0)
    lab.command(run, "cancel")
    assert lab.finish(run) == "CANCELED"
    lab.run_for(120.0)
    assert [row.state for row in lab.store.traffic.movements_of(run)] == ["canceled"]
    assert lab.store.traffic.open_transfers() == []


def test_while_the_service_is_down_small_inputs_go_through_the_brokers_machine(lab: Lab) -> None:
    service(lab).error = SiteUnreachable("globus: no route to host")
    run = lab.submit(*fan(3))
    assert lab.finish(run, step=1.0) == "SUCCEEDED"
    assert {row.mover for row in lab.store.traffic.movements_of(run)} == {"relay"}
    assert service(lab).asked == []


def test_files_of_a_site_that_goes_dark_under_way_are_waited_for_and_then_arrive(lab: Lab) -> None:
    run = lab.submit(*fan(1))
    lab.run_for(6.0, step=1.0)
    now = lab.clock()
    lab.sites["nersc"].model.inject(Partition(start=now, end=now + micros(120)))
    assert lab.finish(run) == "SUCCEEDED"
    assert [a.number for a in lab.attempts(run, "use0")] == [1]


def test_a_stage_that_leaves_a_dark_site_does_not_leave_its_transfer_running() -> None:
    lab = Lab(site("nersc"), site("alcf"), site("olcf"), service=True)
    service(lab)._latency = 10_000.0
    stages = fan(1)
    stages[1].rules = {"sites": {"prefer": ["alcf"], "deny": ["nersc"]}, "failover": {"after": 60.0}}
    run = lab.submit(*stages)
    lab.run_for(20.0, step=1.0)
    lab.sites["alcf"].model.inject(SiteLost(start=lab.clock()))
    lab.run_for(200.0, step=1.0)
    service(lab)._latency = 5.0
    first, second = lab.attempts(run, "use0")
    assert (first.site, second.site) == ("alcf", "olcf")
    rows = {row.attempt: row.state for row in lab.store.traffic.movements_of(run)}
    assert rows[1] in ("canceled", "failed")


def test_a_shipped_checkpoint_travels_by_the_service_and_is_gone_on_from() -> None:
    lab = Lab(site("nersc"), site("alcf"), service=True)
    rules = {"checkpoint": CHECKPOINT, "sites": {"prefer": ["nersc"]}, "failover": {"after": 30.0}}
    run = lab.submit(Stage("long", "seconds=400 checkpoint_every=20 outputs=o:10", outputs=["o"], rules=rules))
    lab.run_for(150.0)
    assert any(c.site == "alcf" and c.state == "verified" for c in lab.store.checkpoints(run))
    lab.sites["nersc"].model.inject(SiteLost(start=lab.clock()))
    assert lab.finish(run) == "SUCCEEDED"
    second = lab.attempts(run, "long")[1]
    assert (second.site, json.loads(second.restore)["site"]) == ("alcf", "alcf")


def test_what_links_have_taught_is_there_for_the_policies(lab: Lab) -> None:
    run = lab.submit(*fan(2))
    assert lab.finish(run, step=1.0) == "SUCCEEDED"
    lab.step(15.0)
    assert lab.broker.world.links[("nersc", "alcf", "globus")].samples >= 1


# -- carried by who works ------------------------------------------------------------------------------------


@pytest.fixture
def direct() -> Lab:
    lab = Lab(site("nersc"), site("alcf"), direct=True)
    lab.mover._latency = 20.0
    lab.broker = lab.new_broker()
    return lab


def test_inputs_that_a_worker_carries_are_seen_and_teach_the_link(direct: Lab) -> None:
    run = direct.submit(*fan(2))
    assert direct.finish(run, step=1.0) == "SUCCEEDED"
    rows = direct.store.traffic.transfers(run_id=run)
    assert [(row.mover, row.source, row.destination, row.state) for row in rows] == [
        ("relay", "nersc", "alcf", "succeeded")
    ] * 2
    direct.broker.moves_due()
    direct.step(15.0)
    learned = direct.broker.world.links[("nersc", "alcf", "relay")]
    assert learned.samples == 2
    assert 19.0 < learned.estimate(bytes=10, files=1).p50 < 25.0


def test_a_canceled_run_leaves_no_transfer_open_though_no_service_has_turns(direct: Lab) -> None:
    direct.mover._latency = 10_000.0
    direct.broker = direct.new_broker()
    run = direct.submit(*fan(1))
    direct.run_for(20.0, step=1.0)
    assert len(direct.store.traffic.open_transfers()) == 1
    direct.command(run, "cancel")
    assert direct.finish(run) == "CANCELED"
    direct.step(1.0)
    assert [row.state for row in direct.store.traffic.movements_of(run)] == ["canceled"]
    assert direct.store.traffic.open_transfers() == []


def test_a_worker_that_died_has_its_transfers_carried_by_the_next_under_the_same_keys(direct: Lab) -> None:
    run = direct.submit(*fan(1))
    direct.run_for(15.0, step=1.0)
    (before,) = direct.store.traffic.open_transfers()
    direct.broker = direct.new_broker("second")
    assert direct.finish(run, step=1.0) == "SUCCEEDED"
    (after,) = direct.store.traffic.transfers(run_id=run)
    assert (after.key, after.native_id, after.state) == (before.key, "second", "succeeded")


def test_a_side_that_is_dark_for_long_leaves_one_row_however_often_it_is_tried(direct: Lab) -> None:
    run = direct.submit(*fan(1))
    direct.run_for(6.0, step=1.0)
    now = direct.clock()
    direct.sites["nersc"].model.inject(Partition(start=now, end=now + micros(300)))
    assert direct.finish(run) == "SUCCEEDED"
    assert len(direct.store.traffic.transfers(run_id=run)) == 1
