"""Stay or leave, by the engine: what runs before have taught keeps a stage whose copy is nearly done."""

from __future__ import annotations

from broker_kit import Lab, Stage, site

from broker.clock import micros
from policies.model import Decision
from sandbox.faults import Partition

AFTER = 60.0
RULES = {"sites": {"prefer": ["nersc"]}, "failover": {"after": AFTER}}


def lab(*, taught: bool) -> Lab:
    """Two sites; `taught`: three runs of the same stage have shown at each how long it takes: 1000 s."""
    there = Lab(site("nersc", slots=8), site("alcf", slots=8))
    if taught:
        for name in ("nersc", "alcf"):
            runs = [there.submit(stage({"sites": {"allow": [name]}})) for _ in range(3)]
            assert {there.finish(run, step=10) for run in runs} == {"SUCCEEDED"}
        there.run_for(180, step=15)  # the past is read now and then
    return there


def stage(rules: dict[str, object]) -> Stage:
    return Stage("a", "seconds=1000", rules=rules)


def fading(there: Lab, *, after: float, silent: float) -> str:
    """A run at nersc, which falls silent after so many seconds, for so long; until half a minute after that."""
    run = there.submit(stage(RULES))
    there.run_for(after)
    start = there.clock()
    there.sites["nersc"].model.inject(Partition(start=start, end=start + micros(silent)))
    there.run_for(silent + 30)
    return run


def moves(there: Lab, run: str) -> list[float]:
    """Seconds of silence after which it left."""
    silences = [event.at for event in there.store.events("site:nersc") if event.kind == "silent"]
    return [(row.created_at - silences[-1]) / 1e6 for row in there.store.attempts(run) if row.why == "failover"]


def decisions(there: Lab, run: str, outcome: str) -> list[Decision]:
    rows = there.store.decisions(run)
    return [Decision.from_json(row.detail) for row in rows if (row.kind, row.outcome) == ("failover", outcome)]


def test_a_copy_that_is_nearly_done_is_waited_for() -> None:
    there = lab(taught=True)
    run = fading(there, after=880, silent=170)
    assert moves(there, run) == []
    assert there.finish(run) == "SUCCEEDED"
    assert [row.site for row in there.store.attempts(run)] == ["nersc"]
    weighed = [reason for d in decisions(there, run, "stay") for reason in d.reasons if reason.rule == "weighed"]
    assert len(weighed) == 1, "told once"
    assert "expected back in" in weighed[0].fact
    assert "runs" not in there.stage(run, "a").reason


def test_the_waiting_ends_at_four_times_after() -> None:
    there = lab(taught=True)
    run = fading(there, after=100, silent=1000)
    (left,) = moves(there, run)
    assert AFTER < left <= 4 * AFTER + 10
    (move,) = decisions(there, run, "move")
    assert {"stay", "leave", "price", "outage_lasts", "lives"} <= move.facts.keys()
    assert there.finish(run) == "SUCCEEDED"


def test_without_a_past_a_stage_leaves_when_its_document_says() -> None:
    there = lab(taught=False)
    run = fading(there, after=880, silent=1000)
    (left,) = moves(there, run)
    assert AFTER <= left <= AFTER + 10


def test_a_sites_own_outages_are_remembered_by_every_process() -> None:
    there = Lab(site("nersc"), site("alcf"))
    for _ in range(3):
        start = there.clock()
        there.sites["nersc"].model.inject(Partition(start=start, end=start + micros(100)))
        there.run_for(200)
    there.broker = there.new_broker()
    there.run_for(90)
    lasted = there.broker.world.outages["nersc"]
    assert len(lasted) == 3
    assert all(85 <= each <= 115 for each in lasted)
    assert "alcf" not in there.broker.world.outages
