"""Checkpoints: which one a stage starts from, and where a copy goes before the site dies."""

from __future__ import annotations

import pytest
from policy_kit import checkpoint, said, silent, site

from policies.checkpoint import choose, readable_from, ship_to
from policies.model import CheckpointFacts, CheckpointRule, Decision

AUTO = CheckpointRule()

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
    assert decision.facts == {"seq": 7, "attempt": 2, "generation": 1, "site": "nersc"}
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


# -- shipping ----------------------------------------------------------------------------------------------------


def test_a_copy_goes_to_the_first_site_of_another_facility_that_answers() -> None:
    others = [
        site("nersc2", facility="NERSC"),
        silent("alcf", seconds=5),
        site("cloud", drained="too dear"),
        site("olcf"),
        site("zeta"),
    ]
    decision = ship_to(AUTO, at=site("nersc"), others=others, seq=7)
    assert (decision.kind, decision.outcome, decision.site, decision.facts) == ("ship", "ship", "olcf", {"seq": 7})
    assert [(r.rule, r.verdict, r.site) for r in decision.reasons] == [
        ("facility", "refused", "nersc2"),
        ("answers", "refused", "alcf"),
        ("answers", "refused", "cloud"),
        ("next_candidate", "chosen", "olcf"),
    ]
    assert decision.reasons[-1].fact == "olcf would take over from nersc"


def test_without_another_facility_the_checkpoint_stays_where_it_is() -> None:
    decision = ship_to(AUTO, at=site("nersc"), others=[site("nersc2", facility="NERSC")], seq=7)
    assert (decision.outcome, decision.site) == ("keep", "")
    assert said(decision) == [("facility", "refused"), ("candidates", "keep")]
    assert decision.reasons[0].fact == "nersc2 fades together with nersc"


def test_the_document_may_forbid_shipping() -> None:
    decision = ship_to(CheckpointRule(ship="never"), at=site("nersc"), others=[site("alcf")], seq=7)
    assert (decision.outcome, decision.reasons[0].fact) == ("keep", "the document says ship: never")
    assert ship_to(CheckpointRule(ship="always"), at=site("nersc"), others=[site("alcf")], seq=7).outcome == "ship"


def test_the_decision_survives_its_json() -> None:
    _, restore = choose([checkpoint(7)], target="alcf", dark=(), started_before=True)
    for decision in (restore, ship_to(AUTO, at=site(), others=[site("alcf")], seq=1)):
        assert Decision.from_json(decision.json) == decision
