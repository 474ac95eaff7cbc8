"""Copies ahead: whether one leaves now, for where, and which old ones go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_kit import GB, NOW, SECOND, checkpoint, said, silent, site

from policies.explain import sentences
from policies.links import LinkEstimate
from policies.model import CheckpointRule, Decision, Reason, SiteFacts
from policies.shipping import ASK_AGAIN, Elsewhere, Moment, Newest, Target, prune, ship

AUTO, ALWAYS, NEVER = CheckpointRule(), CheckpointRule(ship="always"), CheckpointRule(ship="never")
HOUR, DAY = 3600, 86_400
NERSC = site("nersc")
MONTHLY = 24_942
"""Seconds: sqrt(2 * 120 s * 30 d)."""
REFUSED = Reason("sites.deny", "refused", "olcf is denied", "olcf")


def to(name: str = "alcf", *, p50: float = 120.0, p90: float = 200.0, samples: int = 9, **said: Any) -> Target:
    at = said.pop("at", None) or site(name)
    return Target(site=at, link=LinkEstimate(p50, p90, samples), **said)


def judged(
    rule: CheckpointRule = AUTO,
    *,
    at: SiteFacts = NERSC,
    age: float | None = 600.0,
    every: float | None = 600.0,
    good_for: float = 0.0,
    targets: tuple[Target, ...] = (to(),),
    **moment: Any,
) -> Decision:
    """`age`: seconds since the newest checkpoint that is elsewhere was good; None: there is none."""
    there = None
    if age is not None:
        good_at = NOW - round(age * SECOND)
        there = Elsewhere(seq=6, site="alcf", good_at=good_at, arrived_at=good_at + 120 * SECOND)
    newest = Newest(seq=7, bytes=12 * GB, good_at=NOW - round(good_for * SECOND), every=every)
    return ship(rule, at=at, newest=newest, elsewhere=there, targets=targets, moment=Moment(now=NOW, **moment))


# -- when ----------------------------------------------------------------------------------------------------------


def test_the_first_good_checkpoint_leaves_at_once() -> None:
    decision = judged(age=None, every=None)
    assert (decision.kind, decision.outcome, decision.site) == ("ship", "ship", "alcf")
    assert said(decision) == [("next_candidate", "chosen"), ("first", "ship")]
    (words,) = sentences(decision)
    assert words.startswith("Sends a copy of its checkpoint to alcf: alcf would take over from nersc; ")
    assert words.endswith("; no checkpoint can be read away from NERSC yet.")


def test_then_one_leaves_at_youngs_interval() -> None:
    early, late = judged(age=MONTHLY - 1), judged(age=MONTHLY)
    assert early.outcome == "wait"
    assert early.until is not None
    assert NOW < early.until <= NOW + SECOND
    assert (late.outcome, late.site) == ("ship", "alcf")
    assert late.reasons[-1].fact == (
        "checkpoint 6 at alcf is 6.9 h old, and a copy leaves every 6.9 h: one takes 2 min to alcf, and nersc is lost "
        "every 30 d"
    )
    assert (late.facts["interval"], late.facts["copy_seconds"], late.facts["seq"]) == (MONTHLY, [120.0, 200.0], 7)


def test_the_more_often_a_site_is_lost_the_more_often_a_copy_leaves() -> None:
    assert judged(at=replace(NERSC, losses_every=DAY), age=HOUR).outcome == "wait"
    assert judged(at=replace(NERSC, losses_every=HOUR), age=HOUR).outcome == "ship"


def test_a_dearer_link_is_used_less() -> None:
    quick, slow = (judged(age=HOUR, targets=(to(p50=p50, p90=2 * p50),)).until for p50 in (60.0, 6000.0))
    assert quick is not None
    assert slow is not None
    assert slow > quick


def test_urgent_work_is_copied_four_times_as_often() -> None:
    assert judged(age=MONTHLY / 4 + 1, urgent=True).outcome == "ship"
    assert judged(age=MONTHLY / 4 + 1).outcome == "wait"


def test_a_guess_is_called_one() -> None:
    assert "30 s to alcf, as is guessed" in judged(age=600, targets=(to(p50=30, samples=0),)).reasons[-1].fact


def test_the_document_may_want_all_or_none_of_them() -> None:
    assert (judged(ALWAYS, age=1).outcome, judged(ALWAYS, age=1).reasons[-1].fact) == (
        "ship",
        "the document says ship: always",
    )
    never = judged(NEVER, age=None)
    assert (never.outcome, [r.fact for r in never.reasons]) == ("keep", ["the document says ship: never"])


def test_no_copy_is_sent_from_a_job_that_ends_before_it_could_arrive() -> None:
    decision = judged(age=None, seconds_left=90.0)
    assert (decision.outcome, decision.reasons[-1].fact) == (
        "keep",
        "its job ends within 90 s, and a copy would take 2 min",
    )
    assert judged(age=None, seconds_left=90.0, goes_on=True).outcome == "ship", "the next segment needs it"
    assert judged(age=None, seconds_left=130.0).outcome == "ship"


def test_a_copy_that_its_site_would_not_keep_long_enough_is_not_sent_and_the_cure_is_told() -> None:
    decision = judged(ALWAYS, every=50.0, targets=(to(p50=120, samples=5),))
    assert (decision.outcome, decision.until) == ("wait", NOW + ASK_AGAIN)
    assert decision.reasons[-1].fact == (
        "a copy takes 2 min, and a checkpoint stays at its site for 100 s: write `keep: 4`"
    )
    enough = CheckpointRule(ship="always", keep=4)
    assert judged(enough, every=50.0, targets=(to(p50=120, samples=5),)).outcome == "ship"
    assert judged(ALWAYS, every=50.0, targets=(to(p50=120, samples=4),)).outcome == "ship", "a guess is tried"


# -- announced maintenance -----------------------------------------------------------------------------------------


def before(seconds: float) -> SiteFacts:
    """nersc, so long before its maintenance begins."""
    return replace(NERSC, window_at=NOW + round(seconds * SECOND))


def test_the_last_one_that_arrives_before_an_announced_maintenance_leaves() -> None:
    # the next one, 600 s on, would have to leave 200 s before the window
    decision = judged(at=before(799), every=600, age=60)
    assert (decision.outcome, decision.reasons[-1].rule) == ("ship", "window")
    assert decision.reasons[-1].fact == (
        "announced maintenance of nersc begins in 13 min, and it is the last one that will arrive before"
    )


def test_while_another_one_can_still_arrive_it_is_waited_for() -> None:
    decision = judged(at=before(801), every=600, age=60)
    assert (decision.outcome, decision.reasons[-1].rule) == ("wait", "window")
    assert decision.until == NOW + 601 * SECOND, "p90 before it begins"


def test_one_that_may_just_arrive_leaves_and_one_that_cannot_does_not() -> None:
    assert judged(at=before(150), age=60).outcome == "ship"
    assert judged(at=before(119), age=60).outcome == "wait"


def test_of_a_stage_with_one_checkpoint_so_far_it_waits_until_it_must_leave() -> None:
    assert judged(at=before(5000), every=None, age=60).until == NOW + 4800 * SECOND
    assert judged(at=before(200), every=None, age=60).outcome == "ship"


def test_a_maintenance_that_has_begun_or_is_far_away_changes_nothing() -> None:
    plain = judged(age=60).until
    assert judged(at=before(-5), age=60).until == plain
    assert judged(at=before(90 * DAY), age=60).until == plain


def test_before_a_maintenance_the_next_site_that_can_be_reached_in_time_is_taken() -> None:
    slow, quick = to("alcf", p50=900, p90=2000), to("olcf")
    assert judged(at=before(600), age=60, targets=(slow, quick)).site == "olcf"
    assert judged(age=MONTHLY * 9, targets=(slow, quick)).site == "alcf"


# -- where ---------------------------------------------------------------------------------------------------------


def test_a_copy_goes_to_the_first_site_of_another_facility_that_is_open() -> None:
    targets = (
        to("nersc2", at=site("nersc2", facility="NERSC")),
        to(at=silent("alcf", seconds=5)),
        to(at=site("cloud", drained="too dear")),
        to(at=site("iris", quarantined=True)),
        to("olcf", refused=REFUSED),
        to("zeta"),
    )
    decision = judged(age=None, targets=targets)
    assert (decision.outcome, decision.site) == ("ship", "zeta")
    assert [(r.rule, r.verdict, r.site) for r in decision.reasons[:-1]] == [
        ("facility", "refused", "nersc2"),
        ("answers", "refused", "alcf"),
        ("drained", "refused", "cloud"),
        ("quarantine", "refused", "iris"),
        ("sites.deny", "refused", "olcf"),
        ("next_candidate", "chosen", "zeta"),
    ]


def test_where_the_last_copy_did_not_arrive_comes_last() -> None:
    assert judged(age=None, targets=(to("alcf", failed=True), to("olcf"))).site == "olcf"
    assert judged(age=None, targets=(to("alcf", failed=True),)).site == "alcf"


def test_without_another_facility_the_checkpoint_stays_for_good() -> None:
    decision = judged(age=None, targets=(to(at=site("nersc2", facility="NERSC")), to("olcf", refused=REFUSED)))
    assert (decision.outcome, decision.until) == ("keep", None)
    assert decision.reasons[-1].fact == "no other facility could take over"


def test_with_none_that_is_open_now_it_is_asked_again() -> None:
    decision = judged(ALWAYS, age=None, targets=(to(at=silent("alcf", seconds=5)),))
    assert (decision.outcome, decision.until) == ("wait", NOW + ASK_AGAIN)
    waits, rejected = sentences(decision)
    assert waits.startswith("Keeps its checkpoint where it is for now: no site of another facility")
    assert rejected == "Rejected: alcf gives no answer."


# -- whatever is given ---------------------------------------------------------------------------------------------

SECONDS = st.floats(0.01, 1e7)


@given(
    p50=SECONDS,
    losses=SECONDS,
    age=st.none() | SECONDS,
    every=st.none() | SECONDS,
    seen=st.integers(0, 9),
    window=st.none() | st.floats(-1e6, 1e7),
    urgent=st.booleans(),
)
def test_a_wait_always_ends_later_and_what_is_told_survives(
    p50: float, losses: float, age: float | None, every: float | None, seen: int, window: float | None, urgent: bool
) -> None:
    at = replace(NERSC, losses_every=losses, window_at=None if window is None else NOW + round(window * SECOND))
    decision = judged(at=at, age=age, every=every, targets=(to(p50=p50, p90=2 * p50, samples=seen),), urgent=urgent)
    assert decision.outcome in ("ship", "wait")
    assert (decision.outcome == "wait") == (decision.until is not None)
    assert decision.until is None or decision.until > NOW, "nobody looks again at once, and again, and again"
    assert decision.outcome == "ship" or age is not None or decision.reasons[-1].rule == "keep"
    assert Decision.from_json(decision.json) == decision


# -- old copies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "gone"), [(1, [4, 3, 2]), (2, [3, 2]), (3, [2]), (9, [])])
def test_all_but_the_newest_copies_are_removed(keep: int, gone: list[int]) -> None:
    copies = [checkpoint(seq, "alcf", bytes=GB) for seq in (2, 3, 4, 5)]
    old, decision = prune(copies, site="alcf", known=[*copies, checkpoint(9)], keep=keep, restoring=())
    assert [copy.seq for copy in old] == gone
    assert decision.outcome == ("prune" if gone else "keep")


def test_a_removal_says_what_stays_and_what_is_freed() -> None:
    copies = [checkpoint(seq, "alcf", bytes=GB) for seq in (2, 3, 4)]
    _, decision = prune(copies, site="alcf", known=copies, keep=2, restoring=())
    (words,) = sentences(decision)
    assert words.startswith("Removes old copies of checkpoints at alcf: checkpoint 4 is among the newest 2 there; ")
    assert words.endswith("; 2: 2 newer ones stay there, and 1 GB are freed.")


def test_a_copy_that_an_attempt_starts_from_stays() -> None:
    copies = [checkpoint(seq, "alcf") for seq in (2, 3, 4)]
    old, _ = prune(copies, site="alcf", known=copies, keep=1, restoring={(1, 1, 3, "alcf")})
    assert [copy.seq for copy in old] == [2]


def test_the_newest_good_checkpoint_that_is_known_anywhere_stays() -> None:
    copies = [checkpoint(4, "alcf"), checkpoint(4, "alcf", attempt=2)]
    old, _ = prune(copies, site="alcf", known=copies[:1], keep=1, restoring=())
    assert old == (), "were only it known"


@given(st.lists(st.integers(1, 9), min_size=1, unique=True), st.integers(1, 4))
def test_whatever_goes_something_newer_stays(seqs: list[int], keep: int) -> None:
    copies = [checkpoint(seq, "alcf") for seq in seqs]
    old, _ = prune(copies, site="alcf", known=copies, keep=keep, restoring=())
    left = {copy.seq for copy in copies} - {copy.seq for copy in old}
    assert max(seqs) in left
    assert len(left) == min(keep, len(seqs))
