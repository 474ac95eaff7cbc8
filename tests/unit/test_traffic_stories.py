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
    lab.step(5.0)
    lab.broker.move()
    assert lab.broker.world.links[("nersc", "alcf", "globus")].samples >= 1
