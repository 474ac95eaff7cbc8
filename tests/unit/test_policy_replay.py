"""`policy replay`: past decisions asked anew, from what they kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from broker_kit import Lab, Stage, site
from click.testing import CliRunner
from policy_kit import NOW, candidate, rules

from broker.cases.answers import view
from broker.cases.kept import ASKED, MOST, kept, sparse
from broker.cases.questions import QUESTIONS
from broker.cases.read import files_in, read_cases, shipped
from broker.cli.app import app
from broker.policy_file import PolicyFile, policy_file
from broker.policy_replay import Replayed, as_view, replayed
from broker.spec import document_from
from policies import placement
from policies.again import NotKept, inputs_again, place_again
from policies.forecast import Forecast, Term
from policies.model import Decision, Reason, Rules
from policies.placement import Candidate
from policies.ranking import RankNumbers
from policies.shipping import AheadNumbers
from sandbox.faults import Partition, Preemption


def ours(data: dict[str, Any]) -> PolicyFile:
    return policy_file(document_from(data, name="ours.yaml"), name="ours")


def numbers(**by_policy: Any) -> PolicyFile:
    return ours({"numbers": by_policy})


# -- what is kept ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [case for path in files_in([shipped()]) for case in read_cases(path)],
    ids=lambda case: f"{case.question.name}: {case.name}",
)
def test_what_is_kept_of_a_question_asks_the_same_again(case: Any) -> None:
    told = json.loads(json.dumps({name: sparse(value) for name, value in case.given.items()}))
    if case.question.name == "health":  # rows of evidence are tuples, which lists of a file are not
        return
    again = case.question.made(told, ())
    assert view(case.question.function(**again)) == view(case.question.function(**case.given))


def test_defaults_are_not_kept_and_what_is_too_large_is_only_counted() -> None:
    assert sparse(rules(after=300.0)) == {"failover": {"after": 300.0}}
    assert sparse(Rules()) == {}
    decision = Decision("retry", "fail", (Reason("a", "fail", ""),))
    small = kept(decision, "retry", {"rules": Rules()})
    assert small.facts[ASKED] == {"policy": "retry", "outcome": "fail", "site": "", "given": {"rules": {}}}
    large = kept(decision, "retry", {"rules": rules(prefer=tuple(f"site-{i}" for i in range(2000)))})
    assert "given" not in large.facts[ASKED]
    assert large.facts[ASKED]["bytes"] > MOST  # type: ignore[index]


def test_every_policy_that_keeps_its_question_can_be_asked() -> None:
    assert {"failover", "retry"} <= QUESTIONS.keys()


# -- made anew ------------------------------------------------------------------------------------------------


def told_to(name: str, seconds: float, **said: Any) -> Candidate:
    return replace(candidate(name, **said), forecast=Forecast(site=name, work=Term(seconds, seconds)))


def test_a_placement_is_made_anew_from_its_table() -> None:
    both = [told_to("nersc", 3600, load=3), told_to("olcf", 3630, load=0)]
    decision = Decision.from_json(placement.place(both, now=NOW).json)
    for band in (RankNumbers(), RankNumbers(band=0, seconds=0)):
        assert place_again(decision, band) == placement.place(both, now=NOW, numbers=band).site
    assert decision.site == "olcf"


def test_what_was_not_kept_is_not_guessed() -> None:
    bare = Decision("placement", "place", (Reason("chosen", "chosen", ""),), site="nersc")
    with pytest.raises(NotKept, match="no table"):
        place_again(bare, RankNumbers())
    with pytest.raises(NotKept, match="older version"):
        place_again(replace(bare, facts={"candidates": [{"site": "nersc"}]}), RankNumbers())
    with pytest.raises(NotKept):
        inputs_again(replace(bare, kind="inputs"), AheadNumbers())


def test_inputs_are_weighed_anew() -> None:
    facts = {"bytes": 10**9, "seconds": 100.0, "chance": 0.5, "fade": False, "urgent": False, "worth": 50, "price": 2}
    decision = Decision("inputs", "send", (Reason("pays", "send", ""),), facts=facts)
    assert inputs_again(decision, AheadNumbers()) == "send"
    assert inputs_again(decision, AheadNumbers(link_second=1.0)) == "keep"
    assert inputs_again(decision, AheadNumbers(most_ahead=10**6)) == "keep"


# -- a past of our own ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def past() -> Lab:
    """A run that lost its site for long, and was preempted at the next."""
    there = Lab(site("nersc"), site("olcf"))
    run = there.submit(Stage("a", "seconds=3000", rules={"sites": {"prefer": ["nersc"]}}))
    there.run_for(60)
    there.sites["nersc"].model.inject(Partition(start=there.clock(), end=None))
    there.run_for(1200)
    there.sites["olcf"].model.inject(Preemption(start=there.clock(), count=1, requeue=False))
    there.run_for(60)
    assert [d.outcome for d in there.store.decisions(run) if d.kind in ("failover", "retry")] == [
        "stay",
        "move",
        "again",
    ]
    return there


def changes(there: Lab, policy: PolicyFile) -> Replayed:
    return replayed(there.store, policy, since=0)


def test_the_policy_that_decided_would_have_decided_the_same(past: Lab) -> None:
    found = changes(past, numbers())
    assert found.changed == []
    assert not found.not_kept, found.not_kept
    assert found.same >= 3


def test_a_longer_wait_after_a_preemption_would_have_been_another_decision(past: Lab) -> None:
    (one,) = changes(past, numbers(retry={"after_preemption": "10m"})).changed
    assert (one.stage, one.kind) == ("a", "retry")
    assert (one.was, one.would_be) == ("again, again in 5 s", "again, again in 600 s")


def test_what_a_document_says_of_failover_may_be_tried(past: Lab) -> None:
    found = changes(past, ours({"policy": {"failover": {"act": "ask"}}}))
    assert [(one.kind, one.was, one.would_be) for one in found.changed] == [("failover", "move", "ask")]
    assert "failover.act is ask" in found.changed[0].why
    sooner = changes(past, ours({"failover": {"after": "10s"}}))
    assert ("failover", "move") in [(one.kind, one.would_be) for one in sooner.changed]


def test_decisions_before_the_span_are_left_out(past: Lab) -> None:
    assert replayed(past.store, numbers(), since=past.clock() + 1).decisions == 0


def test_decisions_of_an_older_version_are_counted_and_named(past: Lab) -> None:
    class Old:
        """The same rows, as they were written before questions were kept."""

        run_ids, stages_at = past.store.run_ids, past.store.stages_at

        def decisions(self, run_id: str) -> list[Any]:
            rows = []
            for row in past.store.decisions(run_id):
                decision = Decision.from_json(row.detail)
                facts = {key: value for key, value in decision.facts.items() if key not in (ASKED, "candidates")}
                rows.append(row._replace(detail=replace(decision, facts=facts).json))
            return rows

    found = replayed(Old(), numbers(), since=0)  # type: ignore[arg-type]
    assert found.changed == []
    assert {kind for kind, _ in found.not_kept} == {"placement", "failover", "retry"}
    view = as_view(found, policy="ours", since=0)
    assert sum(row["count"] for row in view["not_kept"]) == found.not_kept.total()
    assert view["decisions"] == found.decisions


# -- as it is typed -------------------------------------------------------------------------------------------


def test_the_command_lists_what_would_be_other_and_sums_up(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "ours.yaml"
    file.write_text("numbers: {placement: {band: 0}}\n")
    document = tmp_path / "w.yaml"
    document.write_text("crossfade: 1\nname: w\nstages: {a: {run: 'true'}}\n")
    runner = CliRunner(env={"CROSSFADE_HOME": str(home)})
    assert runner.invoke(app, ["run", str(document), "--timeout", "60s"]).exit_code == 0
    told = runner.invoke(app, ["policy", "replay", "--policy", str(file), "-o", "json"])
    assert told.exit_code == 0, told.stderr
    view = json.loads(told.stdout)
    assert (view["policy"], view["changed"]) == ("ours", [])
    assert view["decisions"] >= 1
    words = runner.invoke(app, ["policy", "replay", "--policy", str(file), "--since", "1h"])
    assert "it would have changed none of them" in words.stdout
    assert "0 would be others" in words.stdout


def test_a_policy_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text("numbers: {placement: {bnd: 0}}\n")
    told = CliRunner(env={"CROSSFADE_HOME": str(tmp_path)}).invoke(app, ["policy", "replay", "--policy", str(file)])
    assert told.exit_code == 2
    assert "did you mean `band`?" in told.stderr
