"""Going home: only what starts anew, only where the document lets it, and not before home has held."""

from __future__ import annotations

from typing import Any

from broker_kit import Lab, Stage, site
from policy_kit import candidate, rules, said

from broker.clock import micros
from broker.facts import rules_at
from broker.spec import compile_workflow, load_workflow, parse_document
from policies.failback import Journey
from policies.model import Decision, FailoverRule
from policies.placement import place
from sandbox.faults import Partition, Preemption

AWAY = Journey(home="nersc", at="alcf")


def placed(*candidates: Any, **more: Any) -> Decision:
    return place(candidates, now=0, journey=AWAY, **more)


# -- the policy ----------------------------------------------------------------------------------------------


def test_a_run_goes_home_where_its_document_prefers_nothing() -> None:
    decision = placed(candidate("nersc", load=3, share=1), candidate("alcf", load=0))
    assert decision.site == "nersc"
    assert ("failback", "for") in said(decision)
    assert place([candidate("nersc", load=3, share=1), candidate("alcf", load=0)], now=0).site == "alcf"


def test_a_home_that_has_just_come_back_has_to_hold_first() -> None:
    back = candidate("nersc", returning="was down; good in a row since then: 1 of 3", rules=rules(prefer=("nersc",)))
    decision = placed(back, candidate("alcf", rules=rules(prefer=("nersc",))))
    assert decision.site == "alcf"
    assert ("failback", "refused") in said(decision)


def test_where_nothing_else_is_left_home_is_taken_all_the_same() -> None:
    assert placed(candidate("nersc", returning="was down")).site == "nersc"
    never = rules(failback="never")
    assert placed(candidate("nersc", rules=never), candidate("alcf", rules=never, drained="work")).site == "nersc"


def test_never_keeps_a_run_where_it_was_carried_whatever_it_prefers() -> None:
    never = rules(prefer=("nersc", "olcf"), failback="never")
    decision = placed(*(candidate(name, rules=never) for name in ("nersc", "olcf", "alcf")))
    assert decision.site == "alcf"
    assert ("failback", "refused") in said(decision)
    assert ("failback", "for") in said(decision)


def test_never_waits_for_room_rather_than_go_home() -> None:
    never = rules(failback="never")
    decision = placed(candidate("nersc", rules=never), candidate("alcf", rules=never, load=4, share=0))
    assert decision.outcome == "wait"


def test_a_person_sends_it_home_whatever_the_document_says() -> None:
    never = rules(failback="never")
    assert placed(candidate("nersc", rules=never), candidate("alcf", rules=never), want="nersc").site == "nersc"


# -- the engine ----------------------------------------------------------------------------------------------


def run_of(failback: str, *, prefer: bool, back_after: float, seconds: int = 1500) -> tuple[Lab, str]:
    """Two stages, one after the other. The first one's site is dark for a while, and is left."""
    there = Lab(site("nersc", slots=8), site("alcf", slots=8), site("olcf", slots=8))
    wanted = {"failover": {"after": 60.0, "failback": failback}, "sites": {"prefer": ["nersc"] if prefer else []}}
    run = there.submit(
        Stage("a", f"seconds={seconds}", rules=wanted), Stage("b", "seconds=50", needs=["a"], rules=wanted)
    )
    there.run_for(60)
    home = there.attempts(run, "a")[0].site
    model, now = there.sites[home].model, there.clock()
    model.inject(Preemption(start=now, count=9, requeue=False))  # the copy there dies
    model.inject(Partition(start=now, end=now + micros(back_after)))
    assert there.finish(run, step=10) == "SUCCEEDED"
    return there, run


def sites_of(there: Lab, run: str, stage: str) -> list[str]:
    return [row.site for row in there.attempts(run, stage)]


def test_the_next_stage_goes_home_and_the_running_one_never_does() -> None:
    for prefer in (True, False):
        there, run = run_of("next_stage", prefer=prefer, back_after=300)
        home, away = sites_of(there, run, "a")
        assert home != away
        assert sites_of(there, run, "b") == [home]


def test_a_home_that_is_not_back_for_long_is_left_alone() -> None:
    # the outage ends some 90 s before the first stage does, and this site has to hold for 150 s
    there, run = run_of("next_stage", prefer=True, back_after=120, seconds=150)
    (second,) = sites_of(there, run, "b")
    assert second != "nersc"
    (told,) = [row for row in there.store.decisions(run) if row.kind == "placement" and row.n == 1]
    assert ("failback", "refused") in said(Decision.from_json(told.detail))


def test_never_keeps_the_run_where_it_is() -> None:
    there, run = run_of("never", prefer=True, back_after=300)
    home, away = sites_of(there, run, "a")
    assert home == "nersc"
    assert sites_of(there, run, "b") == [away]


def test_other_runs_are_placed_as_ever() -> None:
    there, _ = run_of("never", prefer=True, back_after=300)
    other = there.submit(Stage("c", "seconds=50", rules={"sites": {"prefer": ["nersc"]}}))
    assert there.finish(other) == "SUCCEEDED"
    assert sites_of(there, other, "c") == ["nersc"]


# -- the document --------------------------------------------------------------------------------------------


def rules_in(text: str, site: str = "") -> FailoverRule:
    """Of the one stage of a document with that policy."""
    document = f"crossfade: 1\nname: t\nstages: {{a: {{run: ':', policy: {{failover: {{{text}}}}}{site}}}}}\n"
    made = compile_workflow(load_workflow(parse_document(document, name="t.yaml"), base=None), params={}, base=None)
    (stage,) = made.stages
    assert ("failback" in stage.rules) == ("never" in text), "a document without has the rows that it always had"
    return rules_at(stage.rules, "nersc", "p").failover


def test_a_document_says_never_and_a_site_may_say_otherwise() -> None:
    assert rules_in("after: 60s").failback == "next_stage"
    assert rules_in("failback: next_stage").failback == "next_stage"
    assert rules_in("failback: never").failback == "never"
    there = ", at: {nersc: {policy: {failover: {failback: next_stage}}}}"
    assert rules_in("failback: never", there).failback == "next_stage"
