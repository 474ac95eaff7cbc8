"""Copies of checkpoints ahead, over simulated sites: when they leave, what waits, what is removed."""

from __future__ import annotations

import json
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, site

from broker.clock import micros
from broker.effects.cleaning import prune
from broker.jobs import Job, job_spec
from connectors.harness import HarnessPlan
from policies.intervals import young
from policies.links import PRIOR, Learned, Sample
from policies.model import Decision
from sandbox.faults import Partition, TransferOdds

DAY = 86_400.0
EVERY = 100
AUTO = {**CHECKPOINT, "ship": "auto"}


def lab_of(*, losses_every: float = DAY, latency: float = 20.0, others: tuple[str, ...] = ("alcf",)) -> Lab:
    """nersc, from which a copy takes so long, and others that could take over."""
    lab = Lab(site("nersc", losses_every=losses_every), *(site(name) for name in others))
    lab.mover._latency = latency
    return lab


def begin(lab: Lab, *, seconds: float = 20_000, **checkpoint: object) -> str:
    rules = {"checkpoint": {**AUTO, **checkpoint}, "sites": {"prefer": ["nersc"]}}
    return lab.submit(Stage("a", f"seconds={seconds} checkpoint_every={EVERY}", rules=rules))


def ships(lab: Lab, run: str, outcome: str = "ship") -> list[Decision]:
    rows = [row for row in lab.store.decisions(run) if (row.kind, row.outcome) == ("ship", outcome)]
    return [Decision.from_json(row.detail) for row in rows]


def copies(lab: Lab, run: str, at: str = "alcf") -> dict[int, str]:
    """The copies at a site: number and state."""
    rows = [row for row in lab.store.checkpoints(run) if row.site == at and row.path.startswith("checkpoints/")]
    return {row.seq: row.state for row in rows}


def on_disk(lab: Lab, at: str = "alcf") -> set[str]:
    return {path for path, _ in lab.sites[at].model.disk.files_below("checkpoints")}


# -- when ----------------------------------------------------------------------------------------------------------


def test_the_first_copy_leaves_at_once_and_the_next_ones_at_the_interval() -> None:
    lab = lab_of()
    run = begin(lab)
    lab.run_for(10_000, step=20)
    tau = young(PRIOR.estimate(bytes=64, files=2).p50, DAY)
    assert 2000 < tau < 2500
    left = [int(str(decision.facts["seq"])) for decision in ships(lab, run)]
    assert left[0] == 1
    gaps = [after - before for before, after in pairwise(left)]
    assert len(gaps) == 4
    assert all(tau / EVERY - 1 <= gap <= tau / EVERY + 1 for gap in gaps)
    assert copies(lab, run).keys() >= set(left[-2:])


def test_a_wait_is_told_once_however_many_checkpoints_come() -> None:
    lab = lab_of()
    run = begin(lab)
    lab.run_for(10_000, step=20)
    assert len(ships(lab, run, "wait")) == len(ships(lab, run))
    seen = [row for row in lab.store.checkpoints(run) if row.site == "nersc" and row.verified_at is not None]
    assert len(seen) > 90


def test_meanwhile_nobody_looks() -> None:
    lab = lab_of()
    run = begin(lab)
    lab.run_for(850)
    due = lab.stage(run, "a").due_at
    (waits,) = ships(lab, run, "wait")
    assert waits.until is not None
    assert due is not None
    assert due > lab.clock() + micros(1000)
    assert abs(due - waits.until) < micros(5)
    looks = lab.store.run(run)
    assert looks is not None
    assert looks.due_at == due


def test_what_was_learned_of_the_link_sets_the_pace() -> None:
    learned: Learned = PRIOR
    for _ in range(30):
        learned = learned.with_sample(Sample(1000, 2, 500.0))
    slow = lab_of()
    slow.broker.world.links["nersc", "alcf", "globus"] = learned
    run = begin(slow, keep=9)
    slow.run_for(6000, step=20)
    assert [d.facts["seq"] for d in ships(slow, run)] == [1]
    (waits,) = ships(slow, run, "wait")
    assert waits.facts["transfers_seen"] == 30
    assert float(str(waits.facts["interval"])) == pytest.approx(young(500, DAY), rel=0.1)


def test_never_two_copies_are_under_way_and_the_next_one_takes_the_newest() -> None:
    lab = lab_of(latency=450)
    run = begin(lab, ship="always", keep=9)
    for _ in range(200):
        lab.step(15)
        pending = [e for e in lab.store.effects(run) if e.kind == "ship" and e.state == "pending"]
        assert len(pending) <= 1
    left = [int(str(decision.facts["seq"])) for decision in ships(lab, run)]
    assert len(left) > 4
    assert all(4 <= after - before <= 6 for before, after in pairwise(left))
    assert copies(lab, run).keys() >= set(left[:-1])


def test_a_copy_that_does_not_arrive_holds_up_no_later_one() -> None:
    lab = lab_of()
    lab.mover._odds = TransferOdds(source_vanished=1.0)
    run = begin(lab, ship="always")
    lab.run_for(190)
    (failed,) = [row for row in lab.store.checkpoints(run) if row.state == "shipped"]
    assert failed.reason.startswith("no copy at alcf: ")
    lab.mover._odds = TransferOdds()
    lab.run_for(300)
    assert "verified" in copies(lab, run).values()


def test_after_a_copy_did_not_arrive_another_site_is_tried() -> None:
    lab = lab_of(others=("alcf", "olcf"))
    lab.mover._odds = TransferOdds(source_vanished=1.0)
    run = begin(lab)
    lab.run_for(190)
    lab.mover._odds = TransferOdds()
    lab.run_for(200)
    assert [decision.site for decision in ships(lab, run)] == ["alcf", "olcf"]


def test_the_last_copy_before_an_announced_maintenance_arrives_before_it() -> None:
    lab = lab_of()
    lab.broker.world.windows["nersc"] = lab.clock() + micros(5000)
    run = begin(lab)
    lab.run_for(5000)
    last = ships(lab, run)[-1]
    assert last.reasons[-1].rule == "window"
    arrived = [row for row in lab.store.checkpoints(run) if row.site == "alcf"]
    newest = max(arrived, key=lambda row: row.seq)
    assert newest.verified_at is not None
    assert newest.verified_at <= lab.broker.world.windows["nersc"]
    # p90 of a link never seen is about two minutes: one interval more is what may be lost
    assert newest.seq >= (5000 - 120 - EVERY) // EVERY


def test_with_no_site_to_send_to_it_is_asked_again_and_told_once() -> None:
    lab = lab_of()
    lab.sites["alcf"].model.inject(Partition(start=lab.clock(), end=lab.clock() + micros(1500)))
    run = begin(lab)
    lab.run_for(1400)
    assert ships(lab, run) == []
    assert len(ships(lab, run, "wait")) == 1
    lab.run_for(900)
    assert len(ships(lab, run)) == 1


def test_where_no_other_facility_is_it_is_told_once_that_they_stay() -> None:
    lab = Lab(site("nersc"), site("nersc2", facility="nersc"))
    run = begin(lab)
    lab.run_for(1000)
    (kept,) = ships(lab, run, "keep")
    assert kept.reasons[-1].fact == "no other facility could take over"
    assert lab.stage(run, "a").due_at is None


def test_after_a_move_copies_go_to_where_the_stage_could_go_next() -> None:
    lab = lab_of(others=("alcf", "olcf"))
    run = begin(lab, seconds=4000)
    lab.run_for(1000)
    lab.sites["nersc"].model.inject(Partition(start=lab.clock(), end=lab.clock() + micros(90_000)))
    assert lab.finish(run) == "SUCCEEDED"
    _, second = lab.attempts(run, "a")
    assert (second.site, json.loads(second.restore)["seq"]) == ("alcf", 1)
    assert {decision.site for decision in ships(lab, run)} == {"alcf", "olcf"}


# -- old copies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_copies_stay_and_the_files_of_the_others_go(keep: int) -> None:
    lab = lab_of(latency=1)
    run = begin(lab, ship="always", keep=keep)
    lab.run_for(1080)
    states = copies(lab, run)
    good = [seq for seq, state in states.items() if state == "verified"]
    assert good == sorted(states)[-keep:]
    assert set(states.values()) == {"verified", "gone"}
    assert {int(path.split("/")[3]) for path in on_disk(lab)} == set(good)
    gone = next(row for row in lab.store.checkpoints(run) if row.site == "alcf" and row.state == "gone")
    assert gone.reason.startswith("removed: ")
    assert "prune" in {event.kind for event in lab.store.events(run)}


def test_a_stage_goes_on_from_the_newest_copy_though_older_ones_were_removed() -> None:
    lab = lab_of(latency=1)
    run = begin(lab, seconds=2000, ship="always", keep=1)
    lab.run_for(1030)
    lab.sites["nersc"].model.inject(Partition(start=lab.clock(), end=lab.clock() + micros(90_000)))
    assert lab.finish(run) == "SUCCEEDED"
    assert json.loads(lab.attempts(run, "a")[1].restore)["seq"] == 10


@pytest.mark.parametrize(
    "path",
    ["", "checkpoints", "checkpoints/cfabc", "checkpoints/cfabc/g1", "checkpoints/../runs/g1/7", "runs/r/a/a1", "/etc"],
)
def test_nothing_but_a_copy_of_ours_is_ever_removed(path: str) -> None:
    asked: Any = SimpleNamespace(key="k", claim="", tries=1, payload=json.dumps({"path": path}))
    untouchable: Any = None
    (done,) = prune(untouchable, [(asked, untouchable)]).done
    assert json.loads(done.outcome)["removed"] == 0


def test_a_removal_may_be_repeated() -> None:
    lab = lab_of()
    alcf = lab.sites["alcf"]
    folder = "checkpoints/cfabc/g1/000007"
    for name in (f"{folder}/manifest", f"{folder}/files/a/b", "checkpoints/cfabc/g1/000008/manifest"):
        alcf.write(name, b"x")
    asked: Any = SimpleNamespace(key="k", claim="", tries=1, payload=json.dumps({"path": folder}))
    nobody: Any = None
    outcomes = [json.loads(prune(alcf, [(asked, nobody)]).done[0].outcome)["removed"] for _ in range(2)]
    assert outcomes == [2, 0]
    assert on_disk(lab) == {"checkpoints/cfabc/g1/000008/manifest"}


# -- how often a payload is asked ----------------------------------------------------------------------------------

ASKED = {**AUTO, "ask": {"kind": "file", "value": "STOP", "before_end": 60}, "every": "auto"}


def planned(lab: Lab, run: str, number: int, monkeypatch: pytest.MonkeyPatch) -> HarnessPlan:
    plans: list[HarnessPlan] = []
    monkeypatch.setattr("broker.jobs.render", lambda plan: plans.append(plan) or ())
    stage = lab.stage(run, "a")
    attempt = next(a for a in lab.attempts(run, "a") if a.number == number)
    job_spec(lab.broker.world, Job(stage=stage, attempt=attempt))
    return plans[0]


def test_at_the_best_interval_a_payload_is_asked_by_what_its_checkpoint_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = lab_of()
    run = lab.submit(Stage("a", "seconds=4000 checkpoint_every=100 checkpoint_bytes=20000000", rules={
        "checkpoint": ASKED, "sites": {"prefer": ["nersc"]},
    }))  # fmt: skip
    lab.run_for(1000)
    lab.sites["nersc"].model.inject(Partition(start=lab.clock(), end=lab.clock() + micros(90_000)))
    lab.run_for(1000)
    told = [Decision.from_json(row.detail) for row in lab.store.decisions(run) if row.kind == "interval"]
    assert [decision.site for decision in told] == ["nersc", "alcf"]
    for number, decision in enumerate(told, 1):
        checkpoint = planned(lab, run, number, monkeypatch).checkpoint
        assert checkpoint is not None
        assert checkpoint.every == decision.facts["every"]
    assert [decision.facts["cost"] for decision in told] == [60.0, 5.02]
    assert told[0].facts["between_losses"] == DAY


def test_nothing_is_asked_of_a_payload_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = lab_of()
    run = begin(lab, every="auto")
    lab.settle()
    assert "interval" not in {row.kind for row in lab.store.decisions(run)}
    checkpoint = planned(lab, run, 1, monkeypatch).checkpoint
    assert checkpoint is not None
    assert checkpoint.every is None
