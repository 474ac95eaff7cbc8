"""What attempts cost, why a part of it brought nothing, and who can pay for another one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_kit import rules, site

from connectors.model import LaneLimits, Tariff
from policies import budget
from policies.budget import HOUR, MICRO, Account, Allocation, Amount, Cause, Ending, Rate
from policies.fit import Fit, fit
from policies.model import BudgetRule, Cap, SiteFacts

NERSC = site(
    "nersc",
    nodes=100,
    gpus=4,
    cores=64,
    lanes={"preemptible": LaneLimits(charge=0.5), "urgent": LaneLimits(charge=2.0)},
)
HERE = Rate(unit="node_hours", per_hour=MICRO, nodes=MICRO)
ENDED = Ending(started_at=0, ended_at=2 * HOUR, state="succeeded", won=True)


def rate(tariff: Tariff, at: SiteFacts = NERSC, **asked: object) -> Rate:
    found = fit(rules(**{"walltime": 3600.0, **asked}), at)
    assert isinstance(found, Fit)
    return budget.rate(tariff, found, at)


# -- what it costs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tariff", "asked", "per_hour"),
    [
        (Tariff(), {"nodes": 4}, 4.0),
        (Tariff(factor=1.5), {"nodes": 4}, 6.0),
        (Tariff(), {"nodes": 4, "lane": ("preemptible",)}, 2.0),
        (Tariff(factor=1.5), {"nodes": 4, "lane": ("urgent",)}, 12.0),
        (Tariff(unit="core_hours"), {"nodes": 2, "cores": 8}, 16.0),
        (Tariff(unit="core_hours", whole_nodes=True), {"nodes": 2, "cores": 8}, 128.0),
        (Tariff(unit="gpu_hours"), {"nodes": 2, "gpus": 2}, 4.0),
        (Tariff(unit="gpu_hours"), {"nodes": 2}, 0.0),
        (Tariff(unit="usd", factor=2.4), {"nodes": 2}, 4.8),
    ],
)
def test_a_charge_is_what_is_counted_times_hours_times_the_factors_of_machine_and_lane(tariff, asked, per_hour) -> None:
    assert rate(tariff, **asked).per_hour == round(per_hour * MICRO)


def test_hours_that_are_bought_have_a_price_and_money_is_no_node_hour() -> None:
    bought = rate(Tariff(unit="gpu_hours", usd_per_hour=3.0), nodes=1, gpus=2)
    units = budget.estimated(bought, 3600.0)
    assert budget.worth(units, usd=bought.usd, nodes=bought.nodes) == Amount(node_hours=MICRO // 2, usd=6 * MICRO)
    paid = rate(Tariff(unit="usd", factor=2.4), nodes=1)
    assert budget.worth(budget.estimated(paid, 1800.0), usd=paid.usd, nodes=paid.nodes) == Amount(usd=1_200_000)


def test_where_nobody_limits_its_time_a_job_counts_as_an_hour() -> None:
    assert budget.estimated(HERE, None) == MICRO


# -- how it ended --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "cause", "actual", "wasted"),
    [
        ({}, "", 2.0, 0.0),
        ({"won": False, "started_at": None, "state": "canceled"}, "queue", 0.0, 0.0),
        ({"won": False, "started_at": None, "state": "failed", "fault": "site"}, "queue", 0.0, 0.0),
        ({"won": False, "state": "failed", "fault": "site"}, "lost", 2.0, 2.0),
        ({"won": False, "state": "failed", "fault": "site", "checkpoint_at": HOUR}, "lost", 2.0, 1.0),
        ({"won": False, "state": "failed", "fault": "application"}, "failed", 2.0, 2.0),
        ({"won": False, "state": "failed", "fault": "memory"}, "failed", 2.0, 2.0),
        ({"won": False, "state": "preempted", "fault": "preempted", "checkpoint_at": HOUR // 2}, "preempted", 2.0, 1.5),
        ({"won": False, "state": "timed_out", "checkpoint_at": 2 * HOUR}, "", 2.0, 0.0),
        ({"won": False, "state": "timed_out", "checkpoint_at": HOUR}, "time_limit", 2.0, 1.0),
        ({"won": False, "state": "canceled"}, "canceled", 2.0, 2.0),
        ({"won": False, "state": "canceled", "orphan": True, "checkpoint_at": HOUR}, "duplicate", 2.0, 2.0),
        ({"won": False, "state": "superseded", "orphan": True}, "duplicate", 2.0, 2.0),
        ({"won": False, "state": "succeeded"}, "duplicate", 2.0, 2.0),
        ({"won": False, "state": "canceled", "hedge": True}, "hedge", 2.0, 2.0),
        ({"won": False, "state": "failed", "fault": "site", "orphan": True}, "lost", 2.0, 2.0),
        ({"cut": HOUR, "cut_wasted": HOUR // 2}, "preempted", 3.0, 0.5),
    ],
)
def test_each_end_has_one_cause_and_what_came_after_the_last_checkpoint_is_wasted(
    change, cause, actual, wasted
) -> None:
    settled = budget.settle(HERE, replace(ENDED, **change))
    assert (settled.cause.value, settled.actual / MICRO, settled.wasted / MICRO) == (cause, actual, wasted)


def test_every_cause_has_its_own_definition() -> None:
    assert {cause.value for cause in budget.DOUBLE} == {"lost", "duplicate", "hedge"}
    assert len(Cause) == 9


times = st.integers(0, 10 * HOUR)


@given(
    began=st.none() | times,
    last=times,
    checkpoint=st.none() | times,
    cut=times,
    state=st.sampled_from(("succeeded", "failed", "canceled", "preempted", "timed_out", "superseded")),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    per_hour=st.integers(0, 10**10),
)
def test_never_more_is_wasted_than_was_spent_and_what_never_ran_costs_nothing(
    began, last, checkpoint, cut, state, flags, per_hour
) -> None:
    orphan, hedge, won = flags
    ending = Ending(
        started_at=began, ended_at=(began or 0) + last, state=state, orphan=orphan, hedge=hedge, won=won,
        checkpoint_at=checkpoint, cut=cut, cut_wasted=cut,
    )  # fmt: skip
    rate = Rate(unit="node_hours", per_hour=per_hour)
    settled = budget.settle(rate, ending)
    ran = (0 if began is None else last) + cut
    assert 0 <= settled.wasted <= settled.actual == rate.amount(ran)
    assert settled.actual == 0 or began is not None or cut


@given(block=st.integers(0, 10**15), used=st.dictionaries(st.text(max_size=3), st.integers(0, 10**12), max_size=8))
def test_a_reservation_is_shared_out_to_the_last_millionth_by_what_each_used(block: int, used: dict[str, int]) -> None:
    shares = budget.shared_out(block, used)
    assert sum(shares.values()) == (block if sum(used.values()) else 0)
    total = sum(used.values())
    assert all(abs(shares[name] * total - block * used[name]) <= total for name in used)


# -- who can pay ---------------------------------------------------------------------------------------------


def account(node_hours: float | None = None, usd: float | None = None, used: Amount | None = None) -> Account:
    def millionths(value: float | None) -> int | None:
        return None if value is None else round(value * MICRO)

    cap = Cap(node_hours=millionths(node_hours), usd=millionths(usd))
    return Account(rule="budget", who="the run's budget", cap=cap, used=used or Amount())


def test_a_bound_that_would_be_broken_is_named_with_what_is_left_and_what_is_needed() -> None:
    spent = Amount(node_hours=6_800_000)
    reason = budget.cannot_pay(Amount(node_hours=4 * MICRO), [account(10, used=spent)], NERSC)
    assert reason is not None
    assert reason.rule == "budget"
    assert reason.fact == "the run's budget has 3.2 node-hours left of 10 node-hours, this needs 4 node-hours at nersc"
    assert budget.cannot_pay(Amount(node_hours=3_200_000), [account(10, used=spent)], NERSC) is None


def test_no_money_means_nowhere_that_is_paid_and_hours_are_not_asked_of_it() -> None:
    assert budget.cannot_pay(Amount(usd=1), [account(usd=0)], NERSC) is not None
    assert budget.cannot_pay(Amount(node_hours=9 * MICRO), [account(usd=0)], NERSC) is None


def test_an_allocation_pays_for_no_more_than_it_has_left_less_what_was_booked_since() -> None:
    left = Allocation(account="m1234", unit="node_hours", left=5 * MICRO, held=1_800_000)
    reason = budget.not_allocated(4 * MICRO, [left], NERSC, now=0)
    assert reason is not None
    assert reason.fact == "m1234 at nersc has 3.2 node-hours left, this needs 4 node-hours"
    assert budget.not_allocated(3_200_000, [left], NERSC, now=0) is None
    assert budget.not_allocated(4 * MICRO, [], NERSC, now=0) is None


def test_an_allocation_that_has_ended_pays_for_nothing() -> None:
    ended = Allocation(account="m1234", unit="node_hours", left=5 * MICRO, held=0, ends_at=10)
    reason = budget.not_allocated(1, [ended], NERSC, now=10)
    assert reason is not None
    assert "has ended" in reason.fact
    assert budget.not_allocated(1, [ended], NERSC, now=9) is None


def test_copies_beside_each_other_may_cost_a_part_of_the_budget_and_no_more() -> None:
    rule, cap = BudgetRule(resilience=0.25), Cap(node_hours=8 * MICRO)
    one = Amount(node_hours=MICRO)
    assert budget.may_double(rule, cap=cap, spent=one, more=one) is None
    reason = budget.may_double(rule, cap=cap, spent=one + one, more=one)
    assert reason is not None
    assert (reason.rule, reason.verdict) == ("budget.resilience", "ask")
    assert "of 25% of 8 node-hours for that, 0 node-hours are left" in reason.fact
    assert budget.may_double(BudgetRule(), cap=cap, spent=one + one, more=one) is None
    assert budget.may_double(None, cap=cap, spent=one + one, more=one) is None


@pytest.mark.parametrize(
    ("amount", "words"), [(3_200_000, "3.2 USD"), (12_345 * MICRO, "12,345 USD"), (150, "0.00015 USD")]
)
def test_amounts_are_told_with_few_digits(amount: int, words: str) -> None:
    assert budget.told(amount, "usd") == words
