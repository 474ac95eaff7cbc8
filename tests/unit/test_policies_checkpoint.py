"""Checkpoints: which one a stage starts from."""

from __future__ import annotations

import pytest
from policy_kit import checkpoint, said

from policies.checkpoint import choose, readable_from
from policies.model import CheckpointFacts, Decision

CHOICES: list[tuple[str, list[CheckpointFacts], set[str], tuple[int, str] | None]] = [
    # what is there, who is dark -> (seq, from where) for a start at alcf
    ("none", [], set(), None),
    ("the newest", [checkpoint(4), checkpoint(6), checkpoint(5)], set(), (6, "nersc")),
    ("its own copy of the newest", [checkpoint(6), checkpoint(6, "alcf")], set(), (6, "alcf")),
    ("newer beats nearer", [checkpoint(7), checkpoint(6, "alcf")], set(), (7, "nersc")),
    ("not from a dark site", [checkpoint(7), checkpoint(6, "alcf")], {"nersc"}, (6, "alcf")),
    ("its own although it is dark", [checkpoint(6, "alcf")], {"alcf"}, (6, "alcf")),
    ("all dark", [checkpoint(7), checkpoint(6, "olcf")], {"nersc", "olcf"}, None),
    ("a third site's copy", [checkpoint(7), checkpoint(6, "olcf")], {"nersc"}, (6, "olcf")),
]


@pytest.mark.parametrize(("_", "known", "dark", "expected"), CHOICES)
def test_the_newest_checkpoint_that_can_be_read_is_chosen(
    _: str, known: list[CheckpointFacts], dark: set[str], expected: tuple[int, str] | None
) -> None:
    best, decision = choose(known, target="alcf", dark=dark, started_before=True)
    assert (None if best is None else (best.seq, best.site)) == expected
    assert decision.outcome == ("restore" if expected else "from_start")


def test_of_two_of_one_number_the_later_attempts_is_chosen() -> None:
    known = [checkpoint(6, attempt=1, generation=3), checkpoint(6, attempt=2), checkpoint(6, attempt=2, generation=2)]
    best, _ = choose(known, target="alcf", dark=(), started_before=True)
    assert best is not None
    assert (best.attempt, best.generation) == (2, 2)


def test_the_choice_names_the_copy_and_what_was_better_but_dark() -> None:
    known = [checkpoint(9, "olcf"), checkpoint(7, attempt=2), checkpoint(3, "olcf")]
    _, decision = choose(known, target="alcf", dark={"olcf"}, started_before=True)
    assert decision.facts == {"seq": 7, "attempt": 2, "generation": 1, "site": "nersc", "newest_readable": 7}
    # checkpoint 3 at olcf is dark too, but would not have been better
    assert [r.fact for r in decision.reasons] == [
        "checkpoint 9 at olcf cannot be read: olcf is dark",
        "checkpoint 7 of attempt 2, verified, read from nersc",
    ]
    assert said(decision) == [("readable", "refused"), ("newest", "chosen")]


@pytest.mark.parametrize(
    ("before", "fact"),
    [(True, "no verified checkpoint can be read"), (False, "nothing was started before")],
)
def test_a_start_from_the_beginning_says_why(before: bool, fact: str) -> None:
    best, decision = choose([], target="alcf", dark=(), started_before=before)
    assert best is None
    assert [(r.rule, r.verdict, r.fact) for r in decision.reasons] == [("newest", "from_start", fact)]


def test_without_a_dark_site_every_copy_can_be_read() -> None:
    known = [checkpoint(1), checkpoint(2, "alcf")]
    assert readable_from(known, "olcf") == known


def test_the_decision_survives_its_json() -> None:
    _, restore = choose([checkpoint(7)], target="alcf", dark=(), started_before=True)
    assert Decision.from_json(restore.json) == restore
