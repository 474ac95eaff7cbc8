"""The storm brake: a site that dies with many stages becomes no storm elsewhere; `-s` prints its course."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from broker_kit import Lab, Stage, site
from hypothesis import given
from hypothesis import strategies as st

from broker.clock import micros
from policies.brake import MINUTE, SPURT, jitter, next_slot
from policies.model import Decision
from sandbox.faults import Partition

LANES = st.sampled_from(("urgent", "normal", "preemptible"))


def most_within(times: list[int], window: int) -> int:
    return max((sum(at - window < other <= at for other in times) for at in times), default=0)


@given(st.integers(1, 200), LANES, st.lists(st.integers(0, 20_000_000), max_size=300))
def test_never_more_than_the_cap_within_a_minute_whoever_asks_when(cap: int, lane: str, pauses: list[int]) -> None:
    now, carried = 0, []
    for pause in pauses:
        now += pause
        if next_slot(carried, cap=cap, lane=lane, now=now) <= now:
            carried.append(now)
    assert most_within(carried, MINUTE) <= cap
    assert most_within(carried, SPURT) <= -(-cap // 6)


@given(st.integers(1, 200), st.lists(st.integers(0, 60_000_000), max_size=300))
def test_a_slot_that_was_promised_is_free_then(cap: int, times: list[int]) -> None:
    carried = sorted(times)
    at = next_slot(carried, cap=cap, lane="urgent", now=60_000_000)
    assert next_slot(carried, cap=cap, lane="urgent", now=at) == at


def test_the_less_urgent_leave_a_part_of_the_brake_to_the_others() -> None:
    carried: list[int] = []
    for lane, share in (("preemptible", 30), ("normal", 45), ("urgent", 60)):
        for second in range(60):
            while len(carried) < 200 and next_slot(carried, cap=60, lane=lane, now=micros(second)) <= micros(second):
                carried = sorted([*carried, micros(second)])
        assert len(carried) <= share
    assert next_slot([0] * 1000, cap=0, lane="normal", now=5) == 5  # no brake


def test_turns_are_spread_evenly_and_the_same_every_time() -> None:
    spread = Counter(jitter(f"run/s{i}", SPURT) // (SPURT // 10) for i in range(10_000))
    assert set(spread) == set(range(10))
    assert max(spread.values()) < 1.2 * min(spread.values())


# -- the engine ----------------------------------------------------------------------------------------------


def storm(count: int, *, lane: list[str] | None = None, **options: Any) -> tuple[Lab, str]:
    """That many stages run at nersc, which dies after a minute."""
    there = Lab(site("nersc", slots=count), site("alcf", slots=count, **options), site("olcf", slots=count, **options))
    rules = {"sites": {"prefer": ["nersc"]}, "failover": {"after": 30.0}}
    stages = [
        Stage(f"s{i}", "seconds=3000", rules={**rules, **({"lane": lane} if lane and i % 10 == 9 else {})})
        for i in range(count)
    ]
    run = there.submit(*stages)
    there.run_for(60, step=10)
    there.sites["nersc"].model.inject(Partition(start=there.clock(), end=there.clock() + micros(10**6)))
    return there, run


def carried(there: Lab, run: str) -> list[tuple[int, str, int]]:
    """(when, where to, which stage) of each failover, in order."""
    return sorted((row.created_at, row.site, row.n) for row in there.store.attempts(run) if row.why == "failover")


@pytest.mark.fault("F42")
@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_site_that_dies_with_many_stages_is_left_within_the_brake_and_all_of_them_finish(count: int) -> None:
    there, run = storm(count, failovers_per_minute=40)
    dead_at = there.clock()
    for _ in range(60):
        there.run_for(60, step=2)
        if len(carried(there, run)) == count:
            break
    moves = carried(there, run)
    assert len(moves) == count
    times = [at for at, _, _ in moves]
    by_minute = Counter((at - dead_at) // MINUTE for at in times)
    print(f"{count} stages: " + ", ".join(f"{by_minute[m]}" for m in range(max(by_minute) + 1)) + " a minute")  # noqa: T201
    for name in ("alcf", "olcf"):
        assert most_within([at for at, to, _ in moves if to == name], MINUTE) <= 40
    assert most_within(times, MINUTE) <= 120
    # no slower than it must be: two sites take 30 a minute each of normal work
    assert (times[-1] - times[0]) / MINUTE <= count / 60 * 1.5 + 1
    assert there.finish(run, step=60) == "SUCCEEDED"
    assert len(there.store.products(run)) == count


def test_the_brake_of_the_whole_installation_holds_over_all_sites() -> None:
    there, run = storm(60)
    there.broker = there.new_broker()
    object.__setattr__(there.broker.world, "failovers_per_minute", 8)
    there.run_for(400, step=10)
    times = [at for at, _, _ in carried(there, run)]
    assert 24 <= len(times) < 60
    assert most_within(times, MINUTE) <= 8


def test_urgent_stages_are_carried_first_though_they_come_last() -> None:
    there, run = storm(40, lane=["urgent", "normal"], failovers_per_minute=10)
    there.run_for(300, step=10)
    order = [n for _, _, n in carried(there, run)]
    assert sorted(order[:4]) == [9, 19, 29, 39]


def test_who_waits_for_his_turn_says_so_once() -> None:
    there, run = storm(20, failovers_per_minute=4)
    there.run_for(180, step=5)
    told = [Decision.from_json(row.detail) for row in there.store.decisions(run) if row.kind == "failover"]
    waits = [decision for decision in told if decision.reasons[-1].rule == "brake"]
    assert 0 < len(waits) <= 20
    left = [stage.reason for stage in there.store.stages(run) if stage.failovers == 0]
    assert left
    assert all("no more than 8 stages a minute are carried from nersc" in reason for reason in left)


def test_the_sites_own_rate_is_its_brake_unless_it_says_another() -> None:
    from broker.facts import to_one_site

    assert to_one_site(site("a")) == 60
    assert to_one_site(site("a", submits_per_minute=10.0)) == 10
    assert to_one_site(site("a", submits_per_minute=10.0, failovers_per_minute=3)) == 3
    assert to_one_site(site("a", submits_per_minute=10.0, failovers_per_minute=0)) == 0


def test_a_later_stage_follows_no_sooner_than_the_slot_that_was_told() -> None:
    there, run = storm(12, failovers_per_minute=6)
    there.run_for(400, step=1)
    times = [at for at, to, _ in carried(there, run) if to == "alcf"]
    assert all(later - sooner >= SPURT for sooner, later in pairwise(times))
