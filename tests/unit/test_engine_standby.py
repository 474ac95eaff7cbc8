"""Inputs sent ahead over simulated sites: when they leave, that a failover finds them there, and that they go again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, site

from broker.audit import audit_run
from broker.cli.telling import sentence
from policies.model import Decision
from sandbox.blob import Blob
from sandbox.faults import SiteLost, TransferOdds

HOUR = 3600.0
SIZE = 5_000_000


def lab_of(*, losses_every: float = 6 * HOUR, others: tuple[str, ...] = ("alcf",), **more: Any) -> Lab:
    lab = Lab(
        site("nersc", losses_every=losses_every), *(site(name) for name in others), places=("data", "other"), **more
    )
    for place in ("data", "other"):
        lab.stored[place].put("raw/scan", Blob(b"x", SIZE), lab.clock())
    lab.mover._latency, lab.mover._bandwidth = 20.0, 1_000_000.0
    return lab


def begin(lab: Lab, *, seconds: float = 7200, ship: str = "auto", places: bool = True, **checkpoint: object) -> str:
    own: dict[str, Any] = {"checkpoint": {**CHECKPOINT, "ship": ship, **checkpoint}, "sites": {"prefer": ["nersc"]}}
    own["resources"] = {"walltime": 1.2 * seconds}
    takes = Stage(
        "recon",
        f"seconds={seconds} checkpoint_every=100 outputs=volume:10",
        outputs=["volume"],
        places=[("scan", ["data:raw/scan"])] if places else (),
        rules=own,
    )
    return lab.submit(takes)


def orders(lab: Lab, run: str, kind: str = "ahead") -> list[Any]:
    return [row for row in lab.store.effects(run) if row.kind == kind]


def told(lab: Lab, run: str) -> list[str]:
    return [sentence(event) for event in lab.store.events(run) if event.kind == "inputs"]


def ahead(lab: Lab, at: str = "alcf") -> set[str]:
    return {path for path, _ in lab.sites[at].model.disk.files_below("inputs")}


def test_the_inputs_follow_the_first_checkpoint() -> None:
    lab = lab_of()
    run = begin(lab)
    lab.run_for(400)
    (order,) = orders(lab, run)
    assert (order.site, order.state) == ("alcf", "done")
    assert json.loads(order.outcome)["arrived"]
    assert len(ahead(lab)) == 1
    print(told(lab, run))
    (words,) = told(lab, run)
    assert words.startswith("inputs sent ahead to alcf: nersc is lost every 6 h")


def test_a_failover_finds_them_there_and_nothing_is_brought_over_a_link() -> None:
    lab = lab_of()
    run = begin(lab)
    lab.run_for(1000)
    before = set(lab.world.errands)
    lab.sites["nersc"].model.inject(SiteLost(start=lab.clock()))
    assert lab.finish(run, step=15) == "SUCCEEDED"
    first, second = lab.attempts(run, "recon")
    assert second.site == "alcf"
    moved = [e.transfer for key, e in lab.world.errands.items() if key not in before]
    of_start = [t for t in moved if t.key.startswith(second.submit_key) and "-in-" in t.key]
    assert of_start
    assert {t.source_site for t in of_start} == {"alcf"}
    assert [str(found) for found in audit_run(lab.store, run)] == []
    assert first.state != "SUCCEEDED"


def test_what_is_not_needed_any_more_is_removed() -> None:
    lab = lab_of()
    run = begin(lab)
    assert lab.finish(run, step=15) == "SUCCEEDED"
    lab.run_for(60)
    assert [row.state for row in orders(lab, run, "recall")] == ["done"]
    assert ahead(lab) == set()
