"""Failover: whether a stage leaves a site that cannot be asked."""

from __future__ import annotations

from typing import Any

import pytest
from policy_kit import NOW, SECOND, Tries, rules, said, silent, site

from policies.failover import MARGIN_FOR_CLOCKS, judge
from policies.model import Decision, Rules, SiteFacts

PAST = NOW - MARGIN_FOR_CLOCKS - 1
"""An absolute end that lies far enough behind for every clock."""


def judged(asked: Rules | None = None, *, at: SiteFacts | None = None, **more: Any) -> Decision:
    """A stage at a site that is silent for 1000 s, with one other site to go to, under the default rules
    (after 900 s, at most 3 moves, duplicates allowed)."""
    said: dict[str, Any] = {"tries": Tries(), "elsewhere": [site("alcf")], "stop_before": None, **more}
    return judge(asked or rules(), site=at or silent(seconds=1000), now=NOW, **said)


def test_after_long_silence_it_moves_and_says_why() -> None:
    decision = judged()
    assert (decision.kind, decision.outcome, decision.until) == ("failover", "move", None)
    assert [r.fact for r in decision.reasons] == [
        "nersc could not be asked for 1000 s, 9 looks",
        "silent for longer than failover.after (900 s)",
        "could go on at alcf",
        "duplicates: allow; the old copy may live, but one result commits",
    ]
    assert said(decision) == [("silence", "for"), ("after", "for"), ("elsewhere", "for"), ("duplicates", "for")]


def test_what_the_site_last_said_stands_beside_its_silence() -> None:
    decision = judged(at=silent(seconds=1000, detail="connection refused"))
    assert decision.reasons[0].fact == "nersc could not be asked for 1000 s, 9 looks: connection refused"


def test_it_stays_while_a_budget_is_left() -> None:
    # 5000 s are far more than failover.after, but too few looks were made: our own network may be at fault
    decision = judged(at=silent(seconds=5000, silent=False, probes=2))
    assert (decision.outcome, decision.until) == ("stay", None)
    assert said(decision) == [("silence", "for"), ("budgets", "stay")]


@pytest.mark.parametrize(("silence", "outcome"), [(899.0, "stay"), (900.0, "move"), (901.0, "move")])
def test_failover_after_is_counted_from_the_first_silent_look(silence: float, outcome: str) -> None:
    decision = judged(at=silent(seconds=silence))
    assert decision.outcome == outcome
    if outcome == "stay":
        assert decision.until == NOW + SECOND  # 900 s - 899 s from now
        assert said(decision) == [("silence", "for"), ("after", "stay")]


def test_it_stays_where_nobody_else_could_take_it() -> None:
    decision = judged(elsewhere=[])
    assert decision.outcome == "stay"
    assert said(decision)[-1] == ("elsewhere", "stay")


@pytest.mark.parametrize(("moves", "outcome"), [(0, "move"), (2, "move"), (3, "ask"), (4, "ask")])
def test_it_asks_a_person_when_it_has_moved_often_enough(moves: int, outcome: str) -> None:
    decision = judged(tries=Tries(failovers=moves))
    assert decision.outcome == outcome
    if outcome == "ask":
        assert decision.reasons[-1].fact == f"moved {moves} times already, failover.max is reached"


# -- may the copies overlap? ---------------------------------------------------------------------------------------

OVERLAP = [
    # duplicates, surely dead, end of the old copy -> outcome, the last rule
    ("allow", False, None, "move", "duplicates"),
    ("allow", False, NOW, "move", "duplicates"),
    ("allow", True, None, "move", "elsewhere"),
    ("allow", False, PAST, "move", "stop_before"),
    ("never", False, None, "stay", "duplicates"),
    ("never", False, NOW, "stay", "duplicates"),
    ("never", False, PAST + 1, "stay", "duplicates"),  # exactly the margin: not yet
    ("never", False, PAST, "move", "stop_before"),
    ("never", True, None, "move", "elsewhere"),
    ("ask", False, None, "ask", "duplicates"),
    ("ask", False, PAST, "move", "stop_before"),
    ("ask", True, None, "move", "elsewhere"),
]


@pytest.mark.parametrize(("duplicates", "dead", "end", "outcome", "last"), OVERLAP)
def test_copies_overlap_only_as_the_document_allows(
    duplicates: str, dead: bool, end: int | None, outcome: str, last: str
) -> None:
    decision = judged(rules(duplicates=duplicates), stop_before=end, surely_dead=dead)
    assert (decision.outcome, decision.reasons[-1].rule) == (outcome, last)


def test_duplicates_never_says_when_the_old_copy_will_surely_be_dead() -> None:
    decision = judged(rules(duplicates="never"), stop_before=NOW + 60 * SECOND)
    assert decision.until == NOW + 120 * SECOND  # its end in 60 s, and 60 s for clocks that differ
    assert judged(rules(duplicates="never"), stop_before=None).until is None


# -- may it act? ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("act", "outcome"), [("auto", "move"), ("ask", "ask"), ("never", "advise")])
def test_act_says_who_moves_it(act: str, outcome: str) -> None:
    decision = judged(rules(act=act))
    assert decision.outcome == outcome
    assert (decision.reasons[-1].rule == "act") == (outcome != "move")


@pytest.mark.parametrize("more", [{"tries": Tries(failovers=3)}, {}])
def test_act_never_asks_nobody(more: dict[str, Any]) -> None:
    decision = judged(rules(act="never", duplicates="ask"), **more)
    assert decision.outcome == "advise"
    assert decision.reasons[-1].fact == "failover.act is never"


def test_act_never_stays_where_a_move_would_not_be_safe() -> None:
    assert judged(rules(act="never", duplicates="never")).outcome == "stay"


def test_the_decision_survives_its_json() -> None:
    for decision in (judged(), judged(elsewhere=[]), judged(at=silent(seconds=10))):
        assert Decision.from_json(decision.json) == decision
