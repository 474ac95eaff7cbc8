"""Charges as the engine books them: held when an attempt begins, settled once when it is over, bounded by budgets."""

from __future__ import annotations

import json
from typing import Any

from broker_kit import CHECKPOINT, Lab, Stage, site

from broker.clock import micros
from broker.store.base import AllocationRow, CapRow, ChargeRow
from connectors.model import LaneLimits, Tariff
from connectors.registry import SiteConfig
from policies.budget import MICRO
from sandbox.faults import NodeFailure, Partition, Preemption

HOUR = 3600.0


def charged(name: str = "nersc", **options: Any) -> SiteConfig:
    """A site where a node-hour costs a node-hour."""
    return site(name, **{"tariff": Tariff(), "account": "m1234", "nodes": 8, "max_walltime": 4 * HOUR, **options})


def budget(node_hours: float | None = None, usd: float | None = None, **more: Any) -> dict[str, Any]:
    return {"node_hours": node_hours, "usd": usd, "per_site": {}, "resilience": None, **more}


def stage(name: str, seconds: float, hours: float = 1.0, **rules: Any) -> Stage:
    """One that takes `seconds`, and asks for `hours`."""
    return Stage(name, f"seconds={seconds:g}", rules={"resources": {"walltime": hours * HOUR}, **rules})


def charges(lab: Lab, run: str) -> list[ChargeRow]:
    return list(lab.store.money.charges(run))


def hours(amount: int) -> float:
    return round(amount / MICRO, 3)


def reasons(lab: Lab, run: str, path: str) -> str:
    return str(lab.stage(run, path).reason)


# -- booked and settled --------------------------------------------------------------------------------------


def test_what_it_may_cost_is_held_at_placement_and_what_it_took_is_booked_at_its_end() -> None:
    lab = Lab(charged())
    run = lab.submit(stage("a", 900, hours=2))
    lab.settle()
    (held,) = charges(lab, run)
    assert (held.site, held.account, held.person, held.lane, held.pool) == ("nersc", "m1234", "tester", "normal", "cpu")
    assert (hours(held.estimated), held.actual, held.settled_at) == (2.0, 0, None)
    assert lab.finish(run) == "SUCCEEDED"
    (settled,) = charges(lab, run)
    (attempt,) = lab.attempts(run, "a")
    assert 0.25 <= hours(settled.actual) <= 0.26
    assert (settled.wasted, settled.cause, settled.source) == (0, "", "site")
    assert settled.settled_at == attempt.ended_at or settled.settled_at > attempt.started_at


def test_a_site_without_a_charge_unit_costs_no_row_and_no_question() -> None:
    lab = Lab(site("nersc"))
    run = lab.submit(stage("a", 60))
    before = lab.store.counts.statements
    assert lab.finish(run) == "SUCCEEDED"
    uncharged = lab.store.counts.statements - before
    assert charges(lab, run) == []
    other = Lab(charged())
    run = other.submit(stage("a", 60))
    before = other.store.counts.statements
    assert other.finish(run) == "SUCCEEDED"
    assert other.store.counts.statements - before > uncharged


def test_the_lanes_factor_and_the_stages_nodes_are_in_the_charge() -> None:
    lanes = {"lanes": {"preemptible": {"qos": "preempt"}}, "lane_limits": {"preemptible": LaneLimits(charge=0.5)}}
    lab = Lab(charged(**lanes))
    run = lab.submit(stage("a", 60, resources={"nodes": 4, "walltime": HOUR}, lane=["preemptible"]))
    lab.settle()
    (held,) = charges(lab, run)
    assert (held.lane, hours(held.estimated)) == ("preemptible", 2.0)
    (decision,) = lab.store.decisions(run)
    told = [reason for reason in json.loads(decision.detail)["reasons"] if reason[0] == "charge"]
    assert told == [["charge", "for", "2 node-hours at the most (4 nodes, 1 h, factor 0.5)", "nersc"]]


def test_the_word_that_names_who_pays_is_the_stages_own() -> None:
    lab = Lab(charged())
    one = stage("a", 60)
    body = one.body() | {"submit": {"account": "m9999", "reservation": "beam_day"}}
    one.body = lambda: body  # type: ignore[method-assign]
    run = lab.submit(one)
    lab.settle()
    (held,) = charges(lab, run)
    assert (held.account, held.reservation) == ("m9999", "beam_day")


def test_what_never_started_costs_nothing() -> None:
    lab = Lab(charged())
    run = lab.submit(stage("a", 900))
    lab.settle()
    lab.command(run, "cancel")
    assert lab.finish(run, limit=600) == "CANCELED"
    (settled,) = charges(lab, run)
    assert settled.settled_at is not None
    assert settled.actual <= 0.01 * MICRO


def test_a_lost_job_wastes_what_came_after_its_last_good_checkpoint() -> None:
    lab = Lab(charged(slots=1))
    sim = "seconds=3000 checkpoint_every=600 outputs=o:1"
    run = lab.submit(Stage("a", sim, outputs=["o"], rules={"checkpoint": CHECKPOINT, "resources": {"walltime": HOUR}}))
    lab.run_for(1500, step=30)
    lab.sites["nersc"].model.inject(NodeFailure(start=lab.clock(), requeue=False))
    assert lab.finish(run, step=30) == "SUCCEEDED"
    first, second = charges(lab, run)
    assert first.cause == "lost"
    assert 0 < first.wasted < first.actual
    assert hours(first.wasted) <= 600 / HOUR + 0.1
    assert (second.cause, second.wasted) == ("", 0)


def test_what_the_site_started_again_is_booked_with_what_it_wasted() -> None:
    lab = Lab(charged(slots=1))
    run = lab.submit(stage("a", 1200))
    lab.run_for(600, step=10)
    lab.sites["nersc"].model.inject(Preemption(start=lab.clock(), requeue=True))
    assert lab.finish(run, step=10) == "SUCCEEDED"
    (settled,) = charges(lab, run)
    assert settled.cause == "preempted"
    assert settled.cut > micros(500)
    assert 0 < settled.wasted < settled.actual


def test_a_copy_left_behind_is_settled_as_a_duplicate_when_it_is_reaped() -> None:
    lab = Lab(charged("nersc"), charged("alcf"))
    run = lab.submit(stage("a", 3000, sites={"prefer": ["nersc"]}, failover={"after": 60.0}))
    lab.run_for(300, step=10)
    now = lab.clock()
    lab.sites["nersc"].model.inject(Partition(start=now, end=now + micros(600)))
    lab.run_for(400, step=10)
    left = charges(lab, run)[0]
    assert (left.site, left.doubles, left.settled_at) == ("nersc", 1, None)
    assert lab.finish(run, step=30) == "SUCCEEDED"
    lab.run_for(600, step=30)
    first, second = charges(lab, run)
    assert (first.cause, first.wasted) == ("duplicate", first.actual)
    assert first.actual > 0
    assert (second.site, second.cause) == ("alcf", "")


# -- bounded -------------------------------------------------------------------------------------------------


def test_a_stage_is_not_begun_that_the_runs_budget_cannot_pay_for_until_a_person_sets_more() -> None:
    lab = Lab(charged(slots=4))
    both = budget(node_hours=1.5)
    run = lab.submit(stage("a", 3500, budget=both), stage("b", 3500, budget=both))
    lab.run_for(60)
    assert [row.n for row in charges(lab, run)] == [0]
    told = "the run's budget has 0.5 node-hours left of 1.5 node-hours, this needs 1 node-hours at nersc"
    assert told in reasons(lab, run, "b")
    assert f"crossfade budget set {run} --node-hours" in reasons(lab, run, "b")
    lab.run_for(4000, step=30)
    assert lab.stage(run, "a").state == "SUCCEEDED"
    assert lab.stage(run, "b").state == "READY"
    lab.store.money.set_cap(CapRow("run", run, 3 * MICRO, None, "pi", "beam time", lab.clock()))
    assert lab.finish(run, step=30) == "SUCCEEDED"
    assert [event.kind for event in lab.store.events(run) if event.actor == "pi"] == ["budget_set"]


def test_what_ends_early_gives_the_rest_back() -> None:
    lab = Lab(charged())
    both = budget(node_hours=1.5)
    run = lab.submit(stage("a", 60, budget=both), stage("b", 60, budget=both))
    assert lab.finish(run) == "SUCCEEDED"
    first, second = charges(lab, run)
    assert second.booked_at >= (first.settled_at or 0)


def test_a_site_over_its_part_of_the_budget_is_passed_over_for_another_one() -> None:
    lab = Lab(charged("nersc", facility="doe"), charged("alcf"))
    rule = budget(node_hours=9, per_site={"doe": {"node_hours": 0.5, "usd": None}})
    run = lab.submit(stage("a", 60, budget=rule, sites={"prefer": ["nersc"]}))
    assert lab.finish(run) == "SUCCEEDED"
    assert [row.site for row in charges(lab, run)] == ["alcf"]
    detail = json.loads(lab.store.decisions(run)[0].detail)
    assert ["budget.per_site", "refused"] in [reason[:2] for reason in detail["reasons"]]


def test_no_dollars_keeps_a_stage_out_of_the_cloud() -> None:
    lab = Lab(charged("cloud", tariff=Tariff(unit="usd", factor=2.4), slots=9), charged("nersc", slots=1))
    rule = budget(usd=0)
    run = lab.submit(*(stage(f"s{i}", 60, budget=rule) for i in range(3)))
    assert lab.finish(run) == "SUCCEEDED"
    assert {row.site for row in charges(lab, run)} == {"nersc"}


def test_a_stages_own_budget_bounds_its_attempts() -> None:
    lab = Lab(charged())
    run = lab.submit(stage("a", 60, hours=3, own_budget=budget(node_hours=2)), stage("b", 60, hours=3))
    lab.run_for(120)
    assert "the stage's budget has 2 node-hours left" in reasons(lab, run, "a")
    assert lab.stage(run, "b").state == "SUCCEEDED"


def test_caps_of_projects_and_people_bound_all_runs_together() -> None:
    for kind, name in (("project", "m1234"), ("user", "tester")):
        lab = Lab(charged(slots=9))
        lab.store.money.set_cap(CapRow(kind, name, 2 * MICRO, None, "pi", "", lab.clock()))
        runs = [lab.submit(stage("a", 3000)) for _ in range(3)]
        lab.run_for(30)
        assert sum(len(charges(lab, run)) for run in runs) == 2
        assert f"{kind} {name} has 0 node-hours left of 2 node-hours" in reasons(lab, runs[2], "a")


def test_a_stage_is_never_placed_where_the_allocation_cannot_pay_for_it() -> None:
    lab = Lab(charged("nersc"), charged("alcf", account="other"))
    now = lab.clock()
    left = AllocationRow("nersc", "m1234", "", "node_hours", 10 * MICRO, 6_800_000, None, now, "", "")
    lab.store.money.keep_allocations("nersc", [left], told=(), now=now)
    run = lab.submit(
        stage("a", 60, hours=4, sites={"allow": ["nersc"]}),
        stage("b", 60, hours=4),
        stage("c", 600, hours=3, sites={"allow": ["nersc"]}),
        stage("d", 600, hours=3, sites={"allow": ["nersc"]}),
    )
    lab.run_for(30)
    assert "m1234 at nersc has 3.2 node-hours left, this needs 4 node-hours" in reasons(lab, run, "a")
    assert {row.n: row.site for row in charges(lab, run)} == {1: "alcf", 2: "nersc"}
    assert "has 0.2 node-hours left, this needs 3 node-hours" in reasons(lab, run, "d")


def test_more_hours_at_the_facility_wake_what_waits_for_them() -> None:
    lab = Lab(charged("nersc"))
    row = AllocationRow("nersc", "m1234", "", "node_hours", MICRO, MICRO, None, lab.clock(), "", "")
    lab.store.money.keep_allocations("nersc", [row], told=(), now=lab.clock())
    run = lab.submit(stage("a", 5))
    lab.run_for(20)
    assert lab.stage(run, "a").state == "READY"
    refilled = row._replace(granted=9 * MICRO, read_at=lab.clock())
    lab.store.money.keep_allocations("nersc", [refilled], told=(), now=lab.clock())
    assert lab.finish(run, limit=30) == "SUCCEEDED"


def test_when_the_part_for_double_runs_is_spent_a_stage_asks_instead_of_moving() -> None:
    lab = Lab(charged("nersc"), charged("alcf"))
    rule = budget(node_hours=8, resilience=0.2)
    both = {"sites": {"prefer": ["nersc"]}, "failover": {"after": 60.0}, "budget": rule}
    run = lab.submit(stage("a", 3000, **both), stage("b", 3000, **both))
    lab.run_for(100, step=10)
    now = lab.clock()
    lab.sites["nersc"].model.inject(Partition(start=now, end=now + micros(3000)))
    lab.run_for(300, step=10)
    states = sorted(lab.stage(run, path).state for path in ("a", "b"))
    assert states == ["ACTIVE", "AWAITING_DECISION"]  # 1.6 node-hours pay for one copy left behind, of 1 each
    asks = next(path for path in ("a", "b") if lab.stage(run, path).state == "AWAITING_DECISION")
    assert "20% of 8 node-hours for that, 0.6 node-hours are left" in reasons(lab, run, asks)
    assert lab.finish(run, step=30) == "SUCCEEDED"
