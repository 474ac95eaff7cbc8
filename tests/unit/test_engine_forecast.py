"""Stages go where they are done first, by what the sites' own rows have taught; over simulated sites."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, site

from broker.cli.candidates import candidate_tables
from broker.cli.explain import explanation_text
from broker.config import Settings
from broker.engine import forecasting
from broker.past import read
from broker.service import Request, Service
from policies.forecast import Forecast
from sandbox.faults import SiteLost

SLOW, QUICK = "alcf", "nersc"  # by name alone the slow one would come first


def lab_of(*, slow: float = 1200.0, quick: float = 10.0, **more: Any) -> Lab:
    return Lab(site(SLOW, submit_latency=slow, **more), site(QUICK, submit_latency=quick, **more))


def learn(lab: Lab, *, count: int = 12, seconds: float = 20, name: str = "learn") -> None:
    """So many jobs at each site, four at a time, and the history read."""
    for where in (SLOW, QUICK):
        stages = [Stage(f"{where}{i}", f"seconds={seconds}", rules=allow(where)) for i in range(count)]
        assert lab.finish(lab.submit(*stages, name=name)) == "SUCCEEDED"
    lab.run_for(20)


def allow(*names: str) -> dict[str, Any]:
    return {"sites": {"allow": list(names)}}


def placements(lab: Lab, run: str) -> list[dict[str, Any]]:
    return [json.loads(row.detail) for row in lab.store.decisions(run) if row.kind == "placement"]


def table(decision: dict[str, Any]) -> dict[str, Forecast]:
    return {row["site"]: Forecast.from_facts(row) for row in decision["facts"]["candidates"]}


def reasons(decision: dict[str, Any], rule: str) -> list[str]:
    return [fact for name, _, fact, _ in decision["reasons"] if name == rule]


def test_a_stage_goes_to_the_site_whose_queue_was_shorter() -> None:
    lab = lab_of()
    learn(lab)
    run = lab.submit(Stage("recon", "seconds=600"))
    lab.finish(run)
    decision = placements(lab, run)[0]
    assert decision["site"] == QUICK
    found = table(decision)
    assert (found[SLOW].wait.p50, found[QUICK].wait.p50) == (pytest.approx(1200, abs=30), pytest.approx(10, abs=10))
    assert found[QUICK].wait.source.startswith("12 jobs of 1 node in the lane normal in 14 d")
    assert reasons(decision, "forecast")[0].startswith("done in ")
    assert reasons(decision, "order")[0].startswith("alcf comes after nersc: 0 of 4 places taken; done in ")


def service_of(lab: Lab) -> Service:
    sites: Any = SimpleNamespace(configs=lab.configs, places={}, path=None, notify={}, caps={})
    return Service(settings=Settings(home="home", user="ann"), store=lab.store, sites=sites, clock=lab.clock)  # type: ignore[arg-type]


def test_plan_shows_the_sums_before_and_explain_says_why_there_and_what_would_change_it(tmp_path: Path) -> None:
    lab = lab_of()
    learn(lab)
    service = service_of(lab)
    document = tmp_path / "w.yaml"
    document.write_text("crossfade: 1\nname: tomo\nstages: {recon: {run: 'true', resources: {walltime: 10m}}}\n")
    (view,) = service.plan(Request(document=document, params={}))
    planned = {one["site"]: one for one in view["candidates"]}  # type: ignore[attr-defined]
    assert (view["site"], planned[QUICK]["chosen"], planned[SLOW]["open"]) == (QUICK, True, True)
    assert planned[SLOW]["wait"]["p50"] == pytest.approx(1200, abs=30)
    assert planned[SLOW]["finish"]["p50"] == pytest.approx(1800, abs=30)
    (table,) = candidate_tables([view])
    assert re.search(r"nersc \*  yes .*\n *alcf +yes +0 s +20 min", table)

    run = lab.submit(Stage("recon", "seconds=300", rules={"resources": {"walltime": 600}}), name="tomo")
    lab.settle()
    text = explanation_text(service.explain(run))
    assert "Placed at nersc: 0 of 4 places taken; done in 10 min: wait 10 s + work 10 min." in text
    assert "Rejected: alcf comes after nersc: 0 of 4 places taken; done in 30 min: wait 20 min + work 10 min." in text
    assert re.search(r"What if: alcf would be as good as nersc without a wait, and no better", text)


def test_before_anything_is_known_the_order_is_as_it_was() -> None:
    lab = lab_of()
    run = lab.submit(Stage("recon", "seconds=10"))
    lab.settle()
    decision = placements(lab, run)[0]
    assert decision["site"] == SLOW
    assert {one.wait.source for one in table(decision).values()} == {"no history: a guess"}


def test_the_same_stages_runs_tell_how_long_it_takes() -> None:
    lab = lab_of()
    for _ in range(3):
        lab.finish(lab.submit(Stage("recon", "seconds=300", rules=allow(QUICK)), name="tomo"))
    lab.run_for(20)
    run = lab.submit(Stage("recon", "seconds=300", rules={"resources": {"walltime": 7200}}), name="tomo")
    lab.settle()
    found = table(placements(lab, run)[0])
    assert found[QUICK].work.p50 == pytest.approx(300, abs=10)
    assert (found[QUICK].work.source, found[SLOW].work.p50) == ("3 runs of recon at nersc", found[QUICK].work.p50)


def test_what_a_checkpoint_saves_is_no_work_that_is_left() -> None:
    lab = lab_of(slow=10)
    rules = {
        "checkpoint": CHECKPOINT,
        "resources": {"walltime": 2000},
        "sites": {"prefer": [QUICK]},
    }
    run = lab.submit(Stage("recon", "seconds=1500 checkpoint_every=100", rules=rules))
    lab.run_for(800)
    lab.sites[QUICK].model.inject(SiteLost(start=lab.clock()))
    assert lab.finish(run) == "SUCCEEDED"
    first, last = placements(lab, run)[0], placements(lab, run)[-1]
    assert last["site"] == SLOW
    assert (table(first)[QUICK].saved, table(first)[QUICK].work.p50) == (0, 2000)
    found = table(last)[SLOW]
    assert 300 <= found.saved <= 800
    assert found.work.p50 == pytest.approx(2000 - found.saved)
    restore = json.loads(lab.attempts(run, "recon")[-1].restore)
    assert restore["done"] == pytest.approx(found.saved, abs=0.1)


def test_a_thousand_stages_alike_are_reckoned_up_once_for_each_site(monkeypatch: pytest.MonkeyPatch) -> None:
    from broker.engine import forecasting

    counted: list[str] = []
    base = forecasting.Forecasts._base

    def counting(self: forecasting.Forecasts, candidate: Any) -> Forecast:
        counted.append(candidate.site.name)
        return base(self, candidate)

    monkeypatch.setattr(forecasting.Forecasts, "_base", counting)
    lab = Lab(site(SLOW, slots=200), site(QUICK, slots=200))
    lab.submit(*(Stage(f"s{i}", "seconds=10") for i in range(200)))
    lab.settle()
    assert len(lab.store.open_attempts(SLOW)) + len(lab.store.open_attempts(QUICK)) == 200
    assert sorted(counted) == [SLOW, QUICK]


def test_a_history_read_whole_is_what_a_keeper_has_read_bit_by_bit() -> None:
    lab = lab_of()
    learn(lab, count=6)
    kept, whole = lab.broker.world.history, read(lab.store, lab.configs, now=lab.clock())
    assert kept.works == whole.works
    assert {name: queue.lanes["normal"].p50 for name, queue in kept.queues.items()} == {
        name: queue.lanes["normal"].p50 for name, queue in whole.queues.items()
    }


def test_a_stage_goes_where_the_files_are_that_it_takes_when_bringing_them_takes_longer_than_the_queue() -> None:
    lab = Lab(site(SLOW), site(QUICK, submit_latency=120))
    lab.mover._latency, lab.mover._bandwidth = 20.0, 1e6
    run = lab.submit(
        Stage("make", "seconds=10 outputs=volume:12000000000", outputs=["volume"], rules=allow(QUICK)),
        Stage("use", "seconds=10", inputs=[("volume", "make")]),
    )
    lab.run_for(600)
    last = placements(lab, run)[-1]
    found = table(last)
    assert last["site"] == QUICK, "by name alone it would have been the other one"
    assert found[QUICK].stage_in.source == "its inputs lie there, as it is now"
    assert found[SLOW].stage_in.source == "12 GB from nersc, as it is now; the way was never used: a guess"
    assert found[SLOW].stage_in.p50 > 120
