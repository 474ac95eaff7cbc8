"""Decisions in words: what was decided, then why, then what was rejected."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from policy_kit import NOW, Tries, candidate, checkpoint, rules, silent, site

from connectors.errors import Fault
from policies import checkpoint as checkpoints
from policies import explain, failover, placement, retry
from policies.explain import sentences
from policies.model import Decision, Failure, Reason

ROOT = Path(__file__).parents[2]


def test_a_placement_says_where_why_and_what_came_after() -> None:
    asked = rules(prefer=("nersc",), deny=("cloud",))
    sites = [candidate(name, rules=asked) for name in ("alcf", "cloud", "nersc")]
    assert sentences(placement.place(sites, now=NOW)) == [
        "Placed at nersc: preference 1 of 1, 1 of 4 places taken.",
        "Rejected: cloud is denied; alcf comes after nersc: not preferred, 1 of 4 places taken.",
    ]


def test_a_wait_for_room_says_what_is_full() -> None:
    assert sentences(placement.place([candidate(load=4, share=0)], now=NOW)) == [
        "Waits for a place: 4 of 4 places at nersc are taken."
    ]


def test_a_move_says_how_long_the_silence_was_and_where_it_could_go() -> None:
    decision = failover.judge(
        rules(), site=silent(seconds=1000), now=NOW, tries=Tries(), elsewhere=[site("alcf")], stop_before=None
    )
    (sentence,) = sentences(decision)
    assert sentence == (
        "Leaves its site: nersc could not be asked for 1000 s, 9 looks; silent for longer than failover.after (900 s); "
        "could go on at alcf; duplicates: allow; the old copy may live, but one result commits."
    )


def test_a_failure_says_whose_fault_it_was() -> None:
    failure = Failure(fault=Fault.APPLICATION, site="nersc", exit_code=3, detail="exit code 3")
    assert sentences(retry.after_failure(rules(), failure, Tries(), now=NOW)) == [
        "Gives up: the payload itself failed: exit code 3; elsewhere it would fail too; 0 retries were allowed."
    ]


def test_a_restore_says_which_checkpoint_and_what_could_not_be_read() -> None:
    known = [checkpoint(9), checkpoint(7, "alcf")]
    _, decision = checkpoints.choose(known, target="alcf", dark={"nersc"}, started_before=True)
    assert sentences(decision) == [
        "Goes on from a checkpoint: checkpoint 7 of attempt 1, verified, read from alcf.",
        "Rejected: checkpoint 9 at nersc cannot be read: nersc is dark.",
    ]


def test_a_command_says_who_wanted_it_and_what_came_of_it() -> None:
    reasons = (Reason("operator", "move", "moved by ann: too slow"), Reason("outcome", "done", "will start at alcf"))
    assert sentences(Decision("command", "move", reasons)) == [
        "Somebody moved it: moved by ann: too slow; will start at alcf."
    ]


def test_a_decision_without_a_reason_is_a_sentence_still() -> None:
    assert sentences(Decision("retry", "fail", ())) == ["Gives up."]


def test_a_kind_that_is_not_known_is_told_by_its_own_words() -> None:
    assert sentences(Decision("budget", "spent", (Reason("usd", "for", "90 of 90 USD"),))) == [
        "budget: spent: 90 of 90 USD."
    ]


def test_braces_in_a_fact_are_only_text() -> None:
    reasons = (Reason("x", "for", "{site} {0} {"), Reason("y", "refused", "{site.name}"))
    assert sentences(Decision("placement", "place", reasons, site="nersc")) == [
        "Placed at nersc: {site} {0} {.",
        "Rejected: {site.name}.",
    ]


def outcomes(module: str) -> set[str]:
    """The outcomes that a policy lists at the top of its file."""
    text = (ROOT / "policies" / f"{module}.py").read_text()
    return set(re.findall(r"`(\w+)`", text.split('"""')[1].split("Facts say")[0]))


@pytest.mark.parametrize(("kind", "module"), [("placement", "placement"), ("failover", "failover"), ("retry", "retry")])
def test_every_outcome_that_a_policy_lists_has_an_opening(kind: str, module: str) -> None:
    listed = outcomes(module) - {"site", "until"}
    assert listed
    assert listed == {outcome for k, outcome in explain._OPENINGS if k == kind}
