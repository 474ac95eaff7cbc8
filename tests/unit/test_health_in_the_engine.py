"""What the broker does with its judgement of sites, under a virtual clock: with three of them, of three facilities."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from broker_kit import Lab, Stage, site

from broker.clock import micros
from broker.health import judge_all
from broker.store.base import EvidenceRow, Sightings
from policies.evidence import CALL, FEED, MAINTENANCE
from policies.health import Judgement
from sandbox.faults import Partition

LONG = "seconds=3000"


def lab(*names: str, **options: Any) -> Lab:
    return Lab(*(site(name, **options) for name in names or ("nersc", "alcf", "olcf")))


def darken(there: Lab, *names: str, seconds: float | None = None) -> None:
    now = there.clock()
    for name in names:
        there.sites[name].model.inject(Partition(start=now, end=None if seconds is None else now + micros(seconds)))


def judged(there: Lab, name: str, capability: str = "status") -> Judgement:
    return judge_all(there.store, there.configs, now=there.clock())[name].health.capabilities[capability]


def prefers(name: str, **more: Any) -> dict[str, Any]:
    return {"sites": {"prefer": [name]}, **more}


def notices(there: Lab) -> list[str]:
    return [e.kind for name in there.sites for e in there.store.events(f"site:{name}") if e.kind == "self_doubt"]


# -- self-doubt ----------------------------------------------------------------------------------------------


@pytest.mark.fault("F37")
def test_when_all_sites_go_dark_nothing_fails_over_and_one_notice_is_given() -> None:
    there = lab()
    runs = [there.submit(Stage("a", LONG, rules=prefers(name))) for name in there.sites]
    there.run_for(60)
    darken(there, *there.sites, seconds=1000)
    there.run_for(900)
    assert notices(there) == ["self_doubt"]
    for run, name in zip(runs, there.sites, strict=True):
        (attempt,) = there.attempts(run, "a")
        assert (attempt.site, attempt.state, attempt.unreachable_since is not None) == (name, "RUNNING", True)
        assert "more likely it is us than they" in there.stage(run, "a").reason
    assert {judged(there, name).rule for name in there.sites} == {"self_doubt"}  # nobody is called down
    there.run_for(300)
    assert {judged(there, name).state.value for name in there.sites} == {"up"}  # and nobody has to prove anything
    assert [there.finish(run, step=30) for run in runs] == ["SUCCEEDED"] * 3
    assert len(there.executions()) == 3


def test_one_site_that_goes_dark_by_itself_is_left() -> None:
    there = lab()
    run = there.submit(Stage("a", LONG, rules=prefers("nersc")))
    there.run_for(60)
    darken(there, "nersc")
    there.run_for(600)
    assert [a.site for a in there.attempts(run, "a")][1:] in (["alcf"], ["olcf"])
    assert notices(there) == []


def test_zones_of_one_provider_that_go_dark_together_are_left() -> None:
    there = lab("west-a", "west-b", "west-c", provider="cloud")
    run = there.submit(Stage("a", LONG, rules=prefers("west-a")))
    there.run_for(60)
    darken(there, "west-a", "west-b")
    there.run_for(600)
    assert [a.site for a in there.attempts(run, "a")] == ["west-a", "west-c"]
    assert notices(there) == []


@pytest.mark.fault("F37")
def test_two_of_three_together_are_doubted_until_one_of_them_answers() -> None:
    there = lab()
    run = there.submit(Stage("a", LONG, rules=prefers("nersc")))
    there.run_for(60)
    darken(there, "nersc")
    there.run_for(30)
    darken(there, "alcf", seconds=1500)
    there.run_for(1400)
    assert len(there.attempts(run, "a")) == 1
    assert notices(there) == ["self_doubt"]
    there.run_for(300)  # alcf is back, so that it was nersc's own fault
    assert [a.site for a in there.attempts(run, "a")][0:1] == ["nersc"]
    assert len(there.attempts(run, "a")) == 2


def test_an_operator_who_calls_a_dark_site_down_ends_the_doubt() -> None:
    there = lab()
    run = there.submit(Stage("a", LONG, rules=prefers("nersc")))
    there.run_for(60)
    darken(there, "nersc", "alcf")
    there.run_for(900)
    assert len(there.attempts(run, "a")) == 1
    until = there.clock() + micros(3600)
    there.store.override_site("nersc", state="down", by="kim", reason="they say so by telephone", until=until)
    there.run_for(60)
    assert [a.site for a in there.attempts(run, "a")] == ["nersc", "olcf"]


def test_a_movers_service_that_goes_dark_with_a_site_is_a_witness() -> None:
    there = Lab(site("nersc"), site("alcf"))
    run = there.submit(Stage("a", LONG, rules=prefers("nersc")))
    there.run_for(60)
    there.broker.world.witnesses["globus"] = there.clock()
    there.broker._health._next_at = there.clock() + micros(86_400)  # it is not looked at again
    darken(there, "nersc")
    there.run_for(900)
    assert len(there.attempts(run, "a")) == 1
    assert "together with globus" in there.stage(run, "a").reason


# -- placing -------------------------------------------------------------------------------------------------


def test_a_site_under_an_override_gets_nothing_new_and_the_words_for_it_until_it_ends() -> None:
    there = lab("nersc", "alcf")
    until = there.clock() + micros(600)
    there.store.override_site("nersc", state="draining", by="kim", reason="new switches", until=until)
    rules = {"sites": {"allow": ["nersc"]}}
    run = there.submit(Stage("a", "seconds=5", rules=rules))
    there.run_for(500)
    assert there.attempts(run, "a") == []
    assert "kim says that it is draining: new switches" in there.stage(run, "a").reason
    there.run_for(200)
    assert [a.site for a in there.attempts(run, "a")] == ["nersc"]


def test_a_site_that_comes_back_is_given_one_stage_at_a_time_until_it_has_held() -> None:
    there = lab("nersc", slots=8)
    there.run_for(60)
    darken(there, "nersc", seconds=200)
    there.run_for(220)
    run = there.submit(*(Stage(f"s{i}", LONG) for i in range(8)))
    there.settle()
    assert sum(bool(there.attempts(run, f"s{i}")) for i in range(8)) == 1
    assert judged(there, "nersc").rule == "hold"
    there.run_for(300)
    assert judged(there, "nersc").state.value != "down"
    there.run_for(600)
    assert sum(bool(there.attempts(run, f"s{i}")) for i in range(8)) == 8


def test_a_window_that_a_feed_announces_stops_new_stages_an_hour_before() -> None:
    there = lab("nersc")
    there.run_for(60)
    begins = there.clock() + micros(2 * 3600)
    row = EvidenceRow("nersc", there.clock(), "compute", ok=True, latency_us=0, detail="power", source=FEED)
    there.store.record(Sightings(evidence=[row._replace(word=MAINTENANCE, until=begins)]), now=there.clock())
    there.run_for(10)
    assert there.broker.world.windows == {"nersc": begins}
    first = there.submit(Stage("a", "seconds=5"))
    assert there.finish(first) == "SUCCEEDED"
    there.clock.advance(3600)
    there.store.record(Sightings(evidence=[row._replace(at=there.clock(), word=MAINTENANCE, until=begins)]), now=1)
    there.run_for(10)
    late = there.submit(Stage("a", "seconds=5"))
    there.run_for(60)
    assert there.attempts(late, "a") == []
    assert "announced: power" in there.stage(late, "a").reason


def test_an_application_that_a_site_swallows_goes_elsewhere_and_others_stay() -> None:
    there = lab("nersc", "alcf")
    rules = {"sites": {"allow": ["nersc"]}}
    for _ in range(5):
        assert there.finish(there.submit(Stage("a", "seconds=5", rules=rules), name="md")) == "SUCCEEDED"
        there.clock.advance(1)  # a row of evidence for each
        assert there.finish(there.submit(Stage("a", "exit=1", rules=rules), name="tomo")) == "FAILED"
    there.run_for(10)
    swallowed = there.submit(Stage("a", "seconds=5", rules=prefers("nersc")), name="tomo")
    well = there.submit(Stage("a", "seconds=5", rules=prefers("nersc")), name="md")
    assert (there.finish(swallowed), there.finish(well)) == ("SUCCEEDED", "SUCCEEDED")
    assert [a.site for a in there.attempts(swallowed, "a")] == ["alcf"]
    assert [a.site for a in there.attempts(well, "a")] == ["nersc"]
    found = judged(there, "nersc", "compute")
    assert (found.state.value, found.reasons[1:]) == ("up", ())  # a bad file is no bad site


# -- what is seen --------------------------------------------------------------------------------------------


def test_work_that_goes_well_makes_its_site_known_to_be_up() -> None:
    there = lab("nersc")
    for _ in range(3):
        run = there.submit(Stage("a", "seconds=70"))
        assert there.finish(run) == "SUCCEEDED"
    states = {name: judged(there, "nersc", name).state.value for name in ("status", "submit", "compute")}
    assert states == {"status": "up", "submit": "up", "compute": "up"}


def test_a_site_is_asked_how_it_is_now_and_then() -> None:
    there = lab("nersc")
    there.run_for(500)
    sources = [row.source for row in there.store.evidence("nersc")]
    assert "probe" not in sources
    there.run_for(200)
    asked = {row.at for row in there.store.evidence("nersc") if row.source == "probe"}
    assert asked
    there.run_for(100)
    assert {row.at for row in there.store.evidence("nersc") if row.source == "probe"} == asked


def test_old_evidence_is_forgotten() -> None:
    there = lab("nersc")
    there.run_for(10)
    assert there.store.evidence("nersc")
    there.clock.advance(31 * 86_400)
    there.run_for(4000, step=600)
    oldest = min(row.at for row in there.store.evidence("nersc", limit=10_000))
    assert oldest > there.clock() - micros(30 * 86_400)


# -- flapping ------------------------------------------------------------------------------------------------


@pytest.mark.fault("F35")
def test_a_site_that_flaps_every_half_minute_causes_one_failover_and_is_given_little_until_it_has_held() -> None:
    there = lab("nersc", "alcf", slots=8, unreachable_probes=2, unreachable_seconds=10.0)
    rules = prefers("nersc", failover={"after": 15.0})
    run = there.submit(*(Stage(f"s{i}", LONG, rules=rules) for i in range(4)))
    there.run_for(60)
    now = there.clock()
    for n in range(20):
        window = Partition(start=now + micros(60 * n), end=now + micros(60 * n + 30))
        there.sites["nersc"].model.inject(window)
    there.run_for(600)
    later = there.submit(*(Stage(f"l{i}", LONG, rules=rules) for i in range(4)))
    there.run_for(580)
    assert judged(there, "nersc").rule in ("flaps", "ratio", "hold", "unreachable", "budgets")
    for i in range(4):
        assert [a.site for a in there.attempts(run, f"s{i}")] == ["nersc", "alcf"]
    placed = [a.site for i in range(4) for a in there.attempts(later, f"l{i}")[:1]]
    assert placed.count("nersc") <= 1
    assert there.finish(run, step=30) == there.finish(later, step=30) == "SUCCEEDED"


@pytest.mark.fault("F36")
def test_a_page_that_is_red_keeps_no_stage_away_and_one_that_is_green_excuses_no_failed_submission() -> None:
    there = lab("nersc", "alcf")
    there.run_for(60)
    now = there.clock()

    def says(name: str, *, ok: bool) -> EvidenceRow:
        return EvidenceRow(name, now, "submit", ok=ok, latency_us=0, detail="so we say", source=FEED)

    failed = [
        EvidenceRow("alcf", now - micros(20 * i + 1), "submit", ok=False, latency_us=0, detail="502", source=CALL)
        for i in range(6)
    ]
    there.store.record(Sightings(evidence=[says("nersc", ok=False), says("alcf", ok=True), *failed]), now=now)
    there.run_for(10)
    assert judged(there, "nersc", "submit").state.value == "degraded"
    assert judged(there, "alcf", "submit").state.value == "down"
    run = there.submit(Stage("a", "seconds=5", rules=prefers("alcf")))
    assert there.finish(run) == "SUCCEEDED"
    assert [a.site for a in there.attempts(run, "a")] == ["nersc"]


@pytest.mark.fault("F42")
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_stages_that_fail_over_together_come_at_the_rate_of_who_takes_them_and_none_is_lost(count: int) -> None:
    there = Lab(site("nersc", slots=count), site("alcf", slots=count, submits_per_minute=count / 8))
    rules = prefers("nersc", failover={"after": 60.0})
    run = there.submit(*(Stage(f"s{i}", "seconds=400", rules=rules) for i in range(count)))
    there.run_for(60)
    assert len(there.executions()) == count
    darken(there, "nersc")
    begun = []
    for _ in range(16):
        there.run_for(60, step=10)
        begun.append(len(there.sites["alcf"].model.journal.executions))
    assert max(b - a for a, b in pairwise(begun)) <= count / 8 * 1.1
    assert begun[-1] == count
    assert there.finish(run, step=30) == "SUCCEEDED"
