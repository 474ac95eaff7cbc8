"""Inputs ahead: whether a failover is likely enough, and would wait long enough, that they are worth the way."""

from __future__ import annotations

from dataclasses import replace
from math import exp
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_kit import GB, NOW, SECOND, said, site

from policies.explain import sentences
from policies.model import CheckpointRule, Decision, SiteFacts
from policies.shipping import AWAY, LINK_SECOND, MOST_AHEAD, Inputs, Moment, send_inputs

AUTO = CheckpointRule()
HOUR, DAY = 3600.0, 86_400.0
NERSC = site("nersc")
SPANS = st.floats(1.0, 30 * DAY)
SIZES = st.integers(1, MOST_AHEAD)


def judged(
    *,
    at: SiteFacts = NERSC,
    rule: CheckpointRule = AUTO,
    bytes: int | None = 12 * GB,  # noqa: A002
    seconds: float = 120.0,
    fade: bool = False,
    **moment: Any,
) -> Decision:
    given_moment = {"seconds_left": 24 * HOUR, "elapsed": HOUR, **moment}
    inputs = Inputs(bytes=bytes, seconds=seconds, fade=fade)
    return send_inputs(rule, at=at, to="alcf", inputs=inputs, moment=Moment(now=NOW, **given_moment))


def losing(every: float) -> SiteFacts:
    return replace(NERSC, losses_every=every)


def window(seconds: float, **more: Any) -> SiteFacts:
    return replace(NERSC, window_at=NOW + round(seconds * SECOND), **more)


# -- what pays -----------------------------------------------------------------------------------------------------


def test_a_day_at_a_site_that_is_lost_once_a_month_is_reason_enough() -> None:
    decision = judged()
    assert (decision.kind, decision.outcome, decision.site) == ("inputs", "send", "alcf")
    assert decision.facts["chance"] == pytest.approx(1 - exp(-1 / 30), abs=1e-4)
    assert sentences(decision) == [
        (
            "Sends its inputs ahead to alcf: nersc is lost every 30 d, and the stage may run for 24 h yet (3.3 %); "
            "12 GB take 2 min to alcf: a failover need not wait for that."
        )
    ]


def test_a_few_hours_are_not() -> None:
    decision = judged(seconds_left=6 * HOUR)
    assert decision.outcome == "keep"
    assert sentences(decision)[0].startswith("Sends no inputs ahead: ")


def test_what_fades_with_the_site_is_worth_far_more() -> None:
    assert judged(seconds_left=HOUR).outcome == "keep"
    decision = judged(seconds_left=HOUR, fade=True)
    assert decision.outcome == "send"
    assert "are lost together with NERSC" in decision.reasons[-1].fact


def test_urgent_work_pays_sooner() -> None:
    assert judged(seconds_left=2 * HOUR).outcome == "keep"
    assert judged(seconds_left=2 * HOUR, urgent=True).outcome == "send"


def test_maintenance_that_may_begin_before_the_end_pays_for_sure() -> None:
    rare = {"losses_every": 100 * 365 * DAY}
    decision = judged(at=window(HOUR, **rare), seconds_left=2 * HOUR)
    assert decision.outcome == "send"
    assert decision.facts["chance"] == 1.0
    assert decision.reasons[0].fact.startswith("announced maintenance of nersc begins in 60 min")
    assert judged(at=window(3 * HOUR, **rare), seconds_left=2 * HOUR).outcome == "keep"


def test_of_a_stage_without_an_end_as_much_is_taken_to_be_left_as_is_over() -> None:
    assert judged(seconds_left=None, elapsed=2 * DAY).facts["remaining"] == 2 * DAY
    assert judged(seconds_left=HOUR, elapsed=2 * DAY, goes_on=True).facts["remaining"] == 2 * DAY
    assert judged(seconds_left=HOUR, elapsed=2 * DAY).facts["remaining"] == HOUR


# -- what never is sent --------------------------------------------------------------------------------------------

NEVER = [
    # the case -> the rule that keeps the inputs where they are, though all else would have them sent
    ("the document sends nothing", {"rule": CheckpointRule(ship="never")}, "ship"),
    ("nobody knows how large they are", {"bytes": None}, "size"),
    ("they are too large", {"bytes": MOST_AHEAD + 1}, "size"),
    ("they would arrive after the end", {"seconds": 2 * DAY}, "seconds_left"),
    ("they fade before they are there", {"at": window(60), "fade": True}, "window"),
]


@pytest.mark.parametrize(("case", "how", "rule"), NEVER, ids=[case for case, *_ in NEVER])
def test_what_is_never_sent(case: str, how: dict[str, Any], rule: str) -> None:
    decision = judged(**{"at": losing(HOUR), **how})
    assert said(decision) == [(rule, "keep")]


# -- for any figures -----------------------------------------------------------------------------------------------


@given(every=SPANS, often=SPANS, seconds=SPANS, left=SPANS, fade=st.booleans(), urgent=st.booleans())
def test_a_site_that_is_lost_more_often_never_has_fewer_inputs_sent(
    every: float, often: float, seconds: float, left: float, fade: bool, urgent: bool
) -> None:
    rare, frequent = max(every, often), min(every, often)
    more = {"seconds": seconds, "seconds_left": left, "fade": fade, "urgent": urgent}
    if judged(at=losing(rare), **more).outcome == "send":
        assert judged(at=losing(frequent), **more).outcome == "send"


@given(every=SPANS, seconds=SPANS, left=SPANS)
def test_what_saves_more_is_never_sent_less(every: float, seconds: float, left: float) -> None:
    plain = {"at": losing(every), "seconds": seconds, "seconds_left": left}
    if judged(**plain).outcome == "send":
        assert judged(**plain, fade=True).outcome == "send"
        assert judged(**plain, urgent=True).outcome == "send"


@given(every=SPANS, left=SPANS, longer=SPANS, seconds=SPANS)
def test_the_longer_it_runs_yet_the_rather_they_are_sent(
    every: float, left: float, longer: float, seconds: float
) -> None:
    short, long = min(left, longer), max(left, longer)
    if judged(at=losing(every), seconds=seconds, seconds_left=short).outcome == "send":
        assert judged(at=losing(every), seconds=seconds, seconds_left=long).outcome == "send"


@given(every=SPANS, left=SPANS, seconds=SPANS, begins=SPANS)
def test_announced_maintenance_never_keeps_what_would_be_sent(
    every: float, left: float, seconds: float, begins: float
) -> None:
    if judged(at=losing(every), seconds=seconds, seconds_left=left).outcome == "send":
        assert judged(at=window(begins, losses_every=every), seconds=seconds, seconds_left=left).outcome == "send"


@given(every=SPANS, left=SPANS, seconds=SPANS, bytes=SIZES, fade=st.booleans())
def test_it_is_the_formula_that_decides(every: float, left: float, seconds: float, bytes: int, fade: bool) -> None:  # noqa: A002
    decision = judged(at=losing(every), seconds=seconds, seconds_left=left, bytes=bytes, fade=fade)
    worth = (1 - exp(-left / every)) * (seconds + (AWAY if fade else 0.0))
    assert (decision.outcome == "send") == (seconds < left and worth > LINK_SECOND * seconds)
