"""What the broker does with its judgement of sites, under a virtual clock: with three of them, of three facilities."""

from __future__ import annotations

from typing import Any

from broker_kit import Lab, Stage, site

from broker.clock import micros
from broker.health import judge_all
from broker.store.base import EvidenceRow, Sightings
from policies.evidence import FEED, MAINTENANCE
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
