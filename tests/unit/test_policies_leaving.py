"""Stay or leave: what an outage still lasts, what lives meanwhile, and what each lane makes of that."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_kit import NOW, SECOND, Tries, rules, said, silent, site

from policies.failover import judge
from policies.leaving import Prospect, acts_after, weigh
from policies.model import Decision
from policies.outages import ALL_DARK, API_ONLY, FEW, LONGEST, UNKNOWN, alive, still_lasts

HOUR = 3600.0

# -- how long an outage still lasts --------------------------------------------------------------------------


def test_without_a_history_an_outage_lasts_twice_what_has_passed() -> None:
    assert still_lasts((), 300.0).value == 600.0
    assert "twice" in still_lasts((), 300.0).source


def test_a_sites_own_outages_that_lasted_longer_are_believed() -> None:
    past = [60.0, 90.0, 1800.0, 2400.0, 3000.0]
    # three of them outlasted 600 s; their mean is 2400 s, of which 600 s have passed
    found = still_lasts(past, 600.0)
    assert (found.value, found.source) == (1800.0, "3 of its 5 outages lasted longer than this one has")


def test_where_too_few_lasted_longer_the_tail_speaks() -> None:
    assert still_lasts([60.0] * 50 + [4000.0] * (FEW - 1), 900.0).value == 1800.0


@given(st.lists(st.floats(0, 1e7), max_size=300), st.floats(0, 1e9))
def test_nobody_is_told_to_wait_for_less_than_nothing_or_more_than_a_day(past: list[float], elapsed: float) -> None:
    assert 0 <= still_lasts(past, elapsed).value <= LONGEST


def test_what_is_dark_says_how_likely_the_copy_lives() -> None:
    def p(**facts: Any) -> float:
        return alive(**{"surely_dead": False, "compute_down": "", "heard": "", **facts}).value

    assert p() == UNKNOWN
    assert p(heard="its files worked since") == API_ONLY
    assert p(compute_down="its site says: power work") == ALL_DARK
    assert p(surely_dead=True, heard="its files worked since") == 0


# -- the sum -------------------------------------------------------------------------------------------------


def prospect(**said: Any) -> Prospect:
    """20 min are left in the copy; elsewhere it takes 30 min, 25 of them work."""
    return Prospect(**{"left": 1200.0, "elsewhere": 1800.0, "rerun": 1500.0, "site": "alcf", **said})


def test_the_sum_is_that_of_the_page() -> None:
    found = weigh(rules(), prospect(), site=silent(seconds=900), now=NOW, past=(), surely_dead=False)
    # D = 1800: stay = 0.7 max(1800, 1200) + 0.3 (1800 + 1800) = 2340; the price is 0.7 x 1500 / 4
    assert (found.stay, found.leave, found.price) == (pytest.approx(2340), 1800, pytest.approx(262.5))
    assert found.leaves


LANES = [
    # lane, seconds of silence, what is heard of the site -> outcome, the last rule
    ("normal", 300, "its files worked since", "stay", "gain"),  # only its interface is down: D is 10 min
    ("normal", 300, "", "stay", "gain"),
    ("normal", 900, "", "move", "duplicates"),
    ("normal", 1200, "its files worked since", "move", "duplicates"),
    ("urgent", 300, "", "stay", "gain"),
    ("urgent", 900, "", "move", "duplicates"),
    ("preemptible", 900, "", "stay", "lane"),
]


def judged(lane: str, seconds: float, heard: str = "", **more: Any) -> Decision:
    asked: dict[str, Any] = {"prospect": prospect(), "stop_before": NOW + 7200 * SECOND, **more}
    wanted = rules(after=300.0, lane=(lane,))
    dark = silent(seconds=seconds, heard=heard)
    return judge(wanted, site=dark, now=NOW, tries=Tries(), elsewhere=[site("alcf")], **asked)


@pytest.mark.parametrize(("lane", "seconds", "heard", "outcome", "last"), LANES)
def test_each_lane_has_its_own_patience(lane: str, seconds: float, heard: str, outcome: str, last: str) -> None:
    decision = judged(lane, seconds, heard)
    assert decision.outcome == outcome
    assert last in [rule for rule, _ in said(decision)]


def test_an_api_outage_alone_keeps_a_stage_until_the_outage_is_longer_than_doing_it_again() -> None:
    files = "its files worked since"
    outcomes = [judged("normal", seconds, files).outcome for seconds in (300, 600, 900, 1000, 1100, 1199)]
    assert outcomes == ["stay", "stay", "stay", "stay", "move", "move"]


def test_a_dead_copy_is_worth_no_waiting() -> None:
    assert judged("normal", 300, surely_dead=True).outcome == "move"
    assert judged("preemptible", 300, surely_dead=True).outcome == "move"


def test_a_checkpoint_elsewhere_makes_leaving_cheap() -> None:
    assert judged("normal", 300, prospect=prospect(elsewhere=400.0, rerun=200.0)).outcome == "move"


def test_a_figure_that_nobody_has_measured_keeps_nothing_waiting() -> None:
    decision = judged("normal", 300, prospect=prospect(learned=False))
    assert decision.outcome == "move"
    assert ("learned", "for") in said(decision)


def test_without_a_forecast_the_documents_after_is_all_there_is() -> None:
    assert judged("normal", 300, prospect=None).outcome == "move"


def test_preemptible_work_waits_for_the_end_of_its_copy_and_no_longer_than_a_day() -> None:
    decision = judged("preemptible", 900)
    assert decision.until == NOW + 7260 * SECOND
    later = judged("preemptible", 900, stop_before=NOW + 10**6 * SECOND)
    assert later.until == NOW + round((LONGEST - 900) * SECOND)
    assert judged("preemptible", LONGEST, stop_before=NOW + 10**6 * SECOND).outcome == "move"


def test_staying_asks_again_and_says_the_same_at_each_look() -> None:
    first, later = judged("normal", 300), judged("normal", 310)
    assert first.until is not None
    assert NOW + 30 * SECOND <= first.until <= NOW + 900 * SECOND
    assert first.reasons[-1] == later.reasons[-1]
    assert first.facts["outage_lasts"] == 600.0


@given(st.floats(60, 1e5), st.floats(0, 1e5), st.floats(0, 1e5), st.sampled_from(("normal", "urgent")))
def test_all_waiting_ends_at_four_times_after(after: float, left: float, rerun: float, lane: str) -> None:
    found = judge(
        rules(after=after, lane=(lane,)),
        site=silent(seconds=4 * after + 1, heard="its files worked since"),
        now=NOW,
        tries=Tries(),
        elsewhere=[site("alcf")],
        stop_before=None,
        prospect=prospect(left=left, elsewhere=1e6 + rerun, rerun=rerun),
    )
    assert found.outcome == "move"


@pytest.mark.parametrize(
    ("lane", "after", "seconds"),
    [
        ("normal", 900.0, 900.0),
        ("urgent", 900.0, 180.0),
        ("urgent", 10.0, 10.0),
        ("urgent", 300.0, 300.0),
        ("preemptible", 900.0, 900.0),
    ],
)
def test_urgent_work_is_patient_for_three_minutes_unless_its_document_says_otherwise(
    lane: str, after: float, seconds: float
) -> None:
    assert acts_after(rules(after=after, lane=(lane,))) == seconds
