"""Queues: what may be expected of a wait, what it will be at most, and from how little."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from policies.forecast import Term
from policies.waits import (
    LAST,
    NEWEST,
    PRIOR,
    UNKNOWN,
    Job,
    Queue,
    expected,
    learn,
    size_of,
    tail,
    upper_bound,
)

SECOND, HOUR, DAY = 1_000_000, 3600.0, 86_400.0
NOW = 100 * round(DAY) * SECOND


def jobs(*waits: float, lane: str = "normal", nodes: int = 1, ago: float = HOUR) -> list[Job]:
    """Jobs that have started, the first wait's first."""
    ended = [NOW - round((ago - i) * SECOND) for i, _ in enumerate(waits)]
    return [Job(lane, nodes, at - round(wait * SECOND), at) for at, wait in zip(ended, waits, strict=True)]


def waiting(*seconds: float, lane: str = "normal") -> list[Job]:
    return [Job(lane, 1, NOW - round(wait * SECOND), None) for wait in seconds]


def term(*known: Job, lane: str = "normal", nodes: int = 1) -> Term:
    return learn(known, now=NOW).expect(lane, nodes)


# -- quantiles -----------------------------------------------------------------------------------------------------


def test_expected_is_the_median_of_the_last_few() -> None:
    assert expected([]) == 0
    assert expected([1000.0] * 50 + [1.0] * LAST) == 1
    assert expected([10.0, 20.0]) == 15


def test_jobs_that_wait_count_as_waits_of_at_least_so_long() -> None:
    known = [5.0] * 10
    assert expected(known, [1.0] * 10) == 5, "they may still start as soon as the others did"
    assert expected(known, [600.0] * 8) == 5, "most have started"
    assert expected(known, [600.0] * 12) == 1200, "most have not, and are taken to have waited half of it"
    assert expected([], [60.0]) == 120


def test_the_tail_is_where_nine_of_ten_have_started() -> None:
    assert tail([float(i) for i in range(1, 101)]) == 90
    assert tail([float(i) for i in range(1, 101)], [1000.0] * 5) == 95
    assert tail([1.0] * 10, [900.0] * 5) == 1800
    assert tail([]) == 0


def test_a_bound_needs_enough_waits_and_looks_at_the_newest() -> None:
    mixed = [float(i) for i in range(1000)]
    random.Random(1).shuffle(mixed)
    assert upper_bound([1.0] * 58) is None
    assert upper_bound([*range(58), 1000.0]) == 1000, "the largest of 59 bounds the 95th percentile at 95 %"
    assert upper_bound([9e9] * 100 + [1.0] * NEWEST) == 1
    assert upper_bound(mixed, quantile=0.5, confidence=0.5) == pytest.approx(500, abs=60)


def test_jobs_that_have_not_started_lift_the_bound_or_leave_none() -> None:
    known = [float(i) for i in range(100)]
    random.Random(1).shuffle(known)
    bound = upper_bound(known)
    assert bound is not None
    lifted = upper_bound(known, [50.0] * 2)
    assert lifted is not None
    assert lifted >= bound
    assert upper_bound(known, [1000.0] * 30) is None, "so many have not started that nobody knows when they do"


def test_three_waits_in_a_row_above_the_bound_mean_that_the_queue_has_changed() -> None:
    calm = [10.0] * 300
    assert upper_bound([*calm, 900.0, 900.0]) == 10, "two may be chance"
    assert upper_bound([*calm, 900.0, 900.0, 900.0]) == 900


# -- coverage ------------------------------------------------------------------------------------------------------

SERIES: dict[str, Callable[[random.Random, int], float]] = {
    "the same all the time": lambda dice, _: dice.lognormvariate(5, 2),
    "longer every day": lambda dice, i: dice.lognormvariate(5 + i / 1000, 1),
    "suddenly ten times as long": lambda dice, i: dice.lognormvariate(5 if i < 1000 else 7.3, 1),
    "suddenly a tenth": lambda dice, i: dice.lognormvariate(7.3 if i < 1000 else 5, 1),
}


@pytest.mark.parametrize("kind", SERIES)
def test_a_wait_exceeds_its_bound_about_as_rarely_as_the_bound_says(kind: str) -> None:
    dice = random.Random(kind)
    waits = [SERIES[kind](dice, i) for i in range(2000)]
    told = [(upper_bound(waits[max(0, i - NEWEST) : i]), waits[i]) for i in range(60, 2000)]
    exceeded = sum(bound is not None and wait > bound for bound, wait in told) / len(told)
    assert all(bound is not None for bound, _ in told)
    assert exceeded <= 0.06


# -- a site's queue ------------------------------------------------------------------------------------------------


def test_a_queue_never_seen_is_taken_for_a_short_one_and_says_so() -> None:
    assert UNKNOWN.expect("urgent", 4) == PRIOR
    assert PRIOR.samples == 0
    assert PRIOR.mean < 600 < HOUR


def test_each_wait_that_is_seen_takes_some_of_that_credit_away() -> None:
    slow = [term(*jobs(*[2 * HOUR] * count)).mean for count in range(1, 12)]
    assert slow == sorted(slow)
    assert PRIOR.mean < slow[0] < slow[2] < 2 * HOUR == pytest.approx(slow[-1])
    quick = [term(*jobs(*[5.0] * count)).mean for count in range(1, 12)]
    assert quick == sorted(quick, reverse=True)
    assert quick[-1] == 5


def test_a_job_that_never_started_tells_of_its_queue_too() -> None:
    given_up = Job("normal", 1, NOW - round(5 * HOUR * SECOND), None, NOW - round(HOUR * SECOND))
    assert term(given_up).mean > PRIOR.mean
    assert term(*waiting(4 * HOUR)).mean > PRIOR.mean
    assert "not started" in term(*waiting(4 * HOUR)).source


def test_lanes_are_queues_of_their_own() -> None:
    queue = learn([*jobs(*[5.0] * 20, lane="urgent"), *jobs(*[HOUR] * 20)], now=NOW)
    assert (queue.expect("urgent", 1).p50, queue.expect("normal", 1).p50) == (5, HOUR)
    assert queue.expect("preemptible", 1) == PRIOR


def test_jobs_of_one_node_and_of_a_hundred_are_told_apart_where_enough_of_both_are_known() -> None:
    queue = learn([*jobs(*[5.0] * 20), *jobs(*[HOUR] * 20, nodes=128), *jobs(60.0, nodes=32)], now=NOW)
    assert (queue.expect("normal", 1).p50, queue.expect("normal", 100).p50) == (5, HOUR)
    assert queue.expect("normal", 128).source.startswith("20 jobs of more than 64 nodes in the lane normal in 14 d")
    assert queue.expect("normal", 32).source.startswith("41 jobs of the lane normal in 14 d"), "one is not enough"
    assert [size_of(nodes) for nodes in (1, 2, 8, 9, 64, 65)] == [0, 1, 1, 2, 2, 3]


def test_what_was_two_weeks_ago_is_forgotten() -> None:
    assert term(*jobs(*[9 * HOUR] * 20, ago=15 * DAY)) == PRIOR


def test_the_source_says_how_many_jobs_what_lane_and_the_bound() -> None:
    assert term(*jobs(5.0)).source == "1 job of the lane normal in 14 d, and a guess"
    assert term(*jobs(*[5.0] * 60)).source == "60 jobs of 1 node in the lane normal in 14 d, 95 of 100 within 5 s"
    assert term(*jobs(*[5.0] * 60)).samples == 60


def test_a_clock_that_was_set_back_is_no_negative_wait() -> None:
    assert term(*[Job("normal", 1, NOW - SECOND, NOW - 5 * SECOND)] * 12).p50 == 0


def test_it_does_not_matter_in_which_order_jobs_are_told() -> None:
    known = [*jobs(*(float(i * i % 97) for i in range(60))), *waiting(5.0, 9.0)]
    shuffled = known[:]
    random.Random(3).shuffle(shuffled)
    assert learn(known, now=NOW) == learn(shuffled, now=NOW)
    assert learn([], now=NOW) == Queue()
