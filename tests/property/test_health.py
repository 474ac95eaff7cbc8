"""The judgement of health, whatever was seen: it is monotone, and what is published excuses nothing."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.evidence import CALL, CANARY, FEED, JOB, LOOK, PROBE, Budgets, Fact
from policies.health import Health, judge
from policies.verdicts import CAPABILITIES, Standing, State

SECOND = 1_000_000
NOW = 1_000_000 * SECOND
SITE = Standing(site="nersc", budgets=Budgets(probes=3, seconds=30.0, hold=120.0))
QUICK = settings(max_examples=150, deadline=None)


def a_fact(seconds: int, capability: str, *, ok: bool, source: str) -> Fact:
    return ("nersc", NOW - seconds * SECOND, capability, ok, 0, "", source, "", "", None)


measured = st.sampled_from((LOOK, CALL, PROBE, JOB, CANARY))
facts = st.lists(
    st.builds(
        a_fact,
        # close together, so that rows, gaps and holds meet
        st.one_of(st.integers(0, 400), st.integers(0, 3000)),
        st.sampled_from(("status", "submit", "credentials")),
        ok=st.booleans(),
        source=st.one_of(measured, st.just(FEED)),
    ),
    max_size=60,
    unique_by=lambda fact: fact[1:3],
)


def judged(rows: list[Fact], *, now: int = NOW) -> Health:
    return judge(SITE, rows, now=now)


def penalties(health: Health) -> list[int]:
    return [health.capabilities[name].state.penalty for name in CAPABILITIES]


def own_word(rows: list[Fact]) -> list[Fact]:
    """Failures by the site's own fault: of jobs, others are nobody's."""
    return [(*row[:7], "site", *row[8:]) if row[6] == JOB else row for row in rows]  # type: ignore[misc]


@QUICK
@given(facts, facts)
def test_more_failures_never_improve_anything(rows: list[Fact], more: list[Fact]) -> None:
    taken = {row[1:3] for row in rows}
    failures = [(*row[:3], False, *row[4:]) for row in more if row[1:3] not in taken and row[6] != FEED]
    before, after = judged(own_word(rows)), judged(own_word([*rows, *failures]))  # type: ignore[list-item]
    assert all(a >= b for a, b in zip(penalties(after), penalties(before), strict=True))


@QUICK
@given(facts, facts)
def test_a_green_feed_never_clears_what_was_measured(rows: list[Fact], more: list[Fact]) -> None:
    measurements = [row for row in rows if row[6] != FEED]
    taken = {row[1:3] for row in measurements}
    green = [(*row[:3], True, *row[4:6], FEED, *row[7:]) for row in more if row[1:3] not in taken]
    with_feed = judged([*measurements, *green])  # type: ignore[list-item]
    assert penalties(with_feed) == penalties(judged(measurements))


@QUICK
@given(facts, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: list[Fact], dice: random.Random) -> None:
    mixed = list(rows)
    dice.shuffle(mixed)
    assert judged(mixed) == judged(rows)


@QUICK
@given(facts, st.integers(2, 10))
def test_an_outage_is_never_over_before_its_hold(rows: list[Fact], good: int) -> None:
    """However much goes well, within the hold of an outage nothing is simply up."""
    budgets = SITE.budgets
    older = [row for row in rows if row[1] < NOW - 300 * SECOND]
    outage = [a_fact(200 - 20 * i, "status", ok=False, source=LOOK) for i in range(budgets.probes + 1)]
    back = [a_fact(100 - 9 * i, "status", ok=True, source=LOOK) for i in range(good)]
    found = judged([*older, *outage, *back]).capabilities["status"]
    assert found.state in (State.PROBING, State.DOWN)
    first = back[0][1]
    assert judged([*older, *outage, *back], now=first + 119 * SECOND).capabilities["status"].state is not State.UP
