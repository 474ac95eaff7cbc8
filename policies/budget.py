"""What attempts cost, and who can pay for another one. Pure; amounts are whole millionths of a unit, so that sums are
exact whatever their order.

charge = counted things x hours x the machine's factor x the lane's factor. Counted are nodes, cores or GPUs, as the
site's unit says. At placement the hours are the walltime that is asked for; at the end those from the job's start to
its end. Each facility's factors are data of its profile, with their source there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from connectors.errors import Fault
from connectors.model import Resources, Tariff
from policies.fit import Fit
from policies.model import BudgetRule, Cap, Reason, SiteFacts

MICRO = 1_000_000
HOUR = 3600 * MICRO
"""Microseconds."""
UNSAID = 3600.0
"""Seconds that a job counts as at placement where neither it nor its site has a time limit."""
UNITS = {"node_hours": "node-hours", "core_hours": "core-hours", "gpu_hours": "GPU-hours", "usd": "USD"}
"""The units, as people read them."""


class Cause(StrEnum):
    """Why what an attempt cost brought nothing. One definition of each; the table in docs/explanation/charges.md is
    made from these sentences."""

    NONE = ""
    """Nothing was wasted: it has the product, or what it left is gone on from."""
    QUEUE = "queue"
    """It never started: it waited, was refused or was called off. It cost nothing."""
    LOST = "lost"
    """Its site or its node failed, or its job vanished: what it ran after its last good checkpoint."""
    PREEMPTED = "preempted"
    """The site ended it to make room, or started it again: what it ran after its last good checkpoint."""
    TIME_LIMIT = "time_limit"
    """It ran into its time limit: what it ran after its last good checkpoint."""
    FAILED = "failed"
    """The payload failed, or ran out of memory: what it ran after its last good checkpoint."""
    CANCELED = "canceled"
    """A person ended it, or its run: what it ran after its last good checkpoint."""
    DUPLICATE = "duplicate"
    """Its stage had gone on without it, and another copy has, or will have, the product: all that it ran."""
    HEDGE = "hedge"
    """It was one of several copies begun on purpose, and another one won: all that it ran."""


DOUBLE = frozenset({Cause.LOST, Cause.DUPLICATE, Cause.HEDGE})
"""What counts against `budget.resilience`: the price of going on although sites fail."""
_KEEPS_CHECKPOINTS = frozenset({Cause.LOST, Cause.PREEMPTED, Cause.TIME_LIMIT, Cause.FAILED, Cause.CANCELED})


# -- what it costs -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one attempt costs in an hour."""

    unit: str
    per_hour: int
    """In millionths of the unit."""
    usd: int = 0
    """Millionths of a dollar for one unit."""
    nodes: int = 0
    """Millionths of a node-hour that one unit stands for in `budget.node_hours`; of money: none."""

    def amount(self, micros: int) -> int:
        """What so many microseconds cost, in millionths of the unit, rounded to the nearest."""
        return (self.per_hour * max(0, micros) + HOUR // 2) // HOUR


def rate(tariff: Tariff, fit: Fit, site: SiteFacts) -> Rate:
    """What an attempt costs there that has these figures and is in that lane."""
    limits = site.lanes.get(fit.lane)
    factor = tariff.factor * (limits.charge if limits is not None else 1.0)
    count, each = _counted(tariff, fit.resources, site)
    usd = 1.0 if tariff.unit == "usd" else tariff.usd_per_hour
    return Rate(
        unit=tariff.unit,
        per_hour=round(count * factor * MICRO),
        usd=round(usd * MICRO),
        nodes=0 if tariff.unit == "usd" else round(MICRO / each),
    )


def _counted(tariff: Tariff, asked: Resources, site: SiteFacts) -> tuple[float, float]:
    """How many things are charged, and how many of them a node has (1 where that is not known)."""
    nodes = max(1, asked.nodes)
    if tariff.unit == "core_hours":
        cores = max(1, site.cores if tariff.whole_nodes and site.cores else asked.cores)
        return nodes * cores, max(1, site.cores)
    if tariff.unit == "gpu_hours":
        gpus = site.gpus if tariff.whole_nodes and asked.gpus else asked.gpus
        return nodes * gpus, max(1, site.gpus)
    return nodes, 1


def estimated(rate: Rate, walltime: float | None) -> int:
    """What it costs if it takes all of its time. `walltime`: seconds."""
    return rate.amount(round((UNSAID if walltime is None else walltime) * 1e6))


# -- how it ended ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ended, as far as its charge depends on it."""

    started_at: int | None
    """Of its last execution; None: it never ran."""
    ended_at: int
    state: str
    """The attempt's final state, in small letters."""
    fault: str = ""
    """A value of connectors.errors.Fault, or empty."""
    orphan: bool = False
    """Had its stage gone on without it?"""
    hedge: bool = False
    won: bool = False
    """Is the stage's product its own?"""
    checkpoint_at: int | None = None
    """When its last checkpoint was taken that may be started from."""
    cut: int = 0
    """Microseconds that executions before the last one took, which the site ended and started again."""
    cut_wasted: int = 0
    """And how much of those came after the last checkpoint of theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What an attempt has cost, in millionths of its unit."""

    actual: int
    wasted: int
    cause: Cause


def settle(rate: Rate, ending: Ending) -> Settled:
    """What it has cost, how much of that for nothing, and why."""
    cause = cause_of(ending)
    if ending.started_at is None and not ending.cut:
        return Settled(actual=0, wasted=0, cause=cause)
    began = ending.ended_at if ending.started_at is None else ending.started_at
    last = max(0, ending.ended_at - began)
    actual = rate.amount(last + ending.cut)
    if cause in (Cause.DUPLICATE, Cause.HEDGE):
        return Settled(actual=actual, wasted=actual, cause=cause)
    after = after_checkpoint(began, ending.ended_at, ending.checkpoint_at) if cause in _KEEPS_CHECKPOINTS else 0
    wasted = min(actual, rate.amount(after + ending.cut_wasted))
    if cause is Cause.NONE and wasted:
        cause = Cause.PREEMPTED  # it has the product, and did a part of the work twice
    return Settled(actual=actual, wasted=wasted, cause=cause if wasted else Cause.NONE)


def cause_of(ending: Ending) -> Cause:
    """By how it ended; what it wasted under that name may still be nothing."""
    if ending.won:
        return Cause.NONE
    if ending.started_at is None and not ending.cut:
        return Cause.QUEUE
    if ending.state in ("superseded", "succeeded") or (ending.state == "canceled" and (ending.orphan or ending.hedge)):
        return Cause.HEDGE if ending.hedge else Cause.DUPLICATE
    named = {"canceled": Cause.CANCELED, "preempted": Cause.PREEMPTED, "timed_out": Cause.TIME_LIMIT}
    if ending.state in named:
        return named[ending.state]
    return Cause.FAILED if ending.fault in (Fault.APPLICATION.value, Fault.MEMORY.value) else Cause.LOST


def after_checkpoint(began: int, ended: int, checkpoint_at: int | None) -> int:
    """Microseconds of an execution after its last good checkpoint; all of them where it has none."""
    kept = min(ended, max(began, checkpoint_at if checkpoint_at is not None else began))
    return max(0, ended - kept)


def shared_out(block: int, used: Mapping[str, int]) -> dict[str, int]:
    """A reservation's whole charge over those who ran in it, each by what it used; adds up to the block exactly.
    Nobody used it: nobody's share, it is all idle."""
    total = sum(used.values())
    if not total:
        return dict.fromkeys(used, 0)
    shares, given, so_far = {}, 0, 0
    for name in sorted(used):  # each is the step of one rounded staircase: no remainder is left
        so_far += used[name]
        upto = block * so_far // total
        shares[name], given = upto - given, upto
    return shares


# -- who can pay -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Node-hours and dollars, in millionths."""

    node_hours: int = 0
    usd: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(node_hours=self.node_hours + other.node_hours, usd=self.usd + other.usd)


def worth(units: int, *, usd: int, nodes: int) -> Amount:
    """An amount in a site's unit, as budgets count it."""
    return Amount(node_hours=units * nodes // MICRO, usd=units * usd // MICRO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One bound, and what is spent and held of it."""

    rule: str
    """budget, budget.per_site, cap.project, cap.user."""
    who: str
    """Whose it is, as a sentence begins."""
    cap: Cap
    used: Amount
    """Settled, and held for what has not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What an account has left at a site, as it was last told there, in millionths of the site's unit."""

    account: str
    unit: str
    left: int
    held: int
    """What was booked here since the site said so, and is likely not in it yet."""
    ends_at: int | None = None


def cannot_pay(need: Amount, accounts: Sequence[Account], site: SiteFacts) -> Reason | None:
    """The first bound that one more attempt there would break; None: all of them hold."""
    for account in accounts:
        for kind, cap, used, wants in (
            ("node_hours", account.cap.node_hours, account.used.node_hours, need.node_hours),
            ("usd", account.cap.usd, account.used.usd, need.usd),
        ):
            if cap is not None and wants and used + wants > cap:
                left = told(max(0, cap - used), kind)
                fact = f"{account.who} has {left} left of {told(cap, kind)}, this needs {told(wants, kind)}"
                return Reason(account.rule, "refused", f"{fact} at {site.name}", site.name)
    return None


def not_allocated(units: int, allocations: Sequence[Allocation], site: SiteFacts, *, now: int) -> Reason | None:
    """Why the allocation there cannot pay for so many millionths of the site's unit; None: it can, or nobody knows."""
    for one in allocations:
        where = f"{one.account} at {site.name}"
        if one.ends_at is not None and one.ends_at <= now and units:
            return Reason("allocation", "refused", f"the allocation of {where} has ended", site.name)
        left = max(0, one.left - one.held)
        if units > left:
            fact = f"{where} has {told(left, one.unit)} left, this needs {told(units, one.unit)}"
            return Reason("allocation", "refused", fact, site.name)
    return None


def may_double(
    rule: BudgetRule | None, *, cap: Cap, spent: Amount, more: Amount, what: str = "a copy left behind"
) -> Reason | None:
    """Why there may be no more copies beside each other; None: there may.

    `cap`: of the run (the document's, or what a person set over it); `spent`: what lost work and copies have cost, and
    may yet; `more`: what the copy that would be left may cost, at the most.
    """
    if rule is None or rule.resilience is None:
        return None
    for kind, whole, gone, wants in (
        ("node_hours", cap.node_hours, spent.node_hours, more.node_hours),
        ("usd", cap.usd, spent.usd, more.usd),
    ):
        if not whole or not wants:
            continue
        share = round(whole * rule.resilience)
        if gone + wants > share:
            part = f"{rule.resilience:.0%} of {told(whole, kind)}"
            fact = (
                f"{what} may cost {told(wants, kind)}; of {part} for that, {told(max(0, share - gone), kind)} are left"
            )
            return Reason("budget.resilience", "ask", fact)
    return None


LITTLE = 0.05
"""Of what was granted: when no more than this is left, a person should know."""
ENDS_SOON = 14 * 86_400 * MICRO
"""Microseconds before an allocation's end from which it is told of."""


def allocation_ends(
    *, left: int, granted: int, held: int, ends_at: int | None, now: int
) -> tuple[str, Callable[[str], str]] | None:
    """Whether a person should know of an allocation now: a word that is the same as long as it is the same matter, and
    the words for it, given its unit. `held`: what was booked since it was read, and by what has not ended."""
    rest = left - held
    if ends_at is not None and ends_at <= now:
        return "ended", lambda _: "has ended"
    if rest <= 0:
        return "spent", lambda unit: f"has {told(left, unit)} left, and {told(held, unit)} of it are held"
    if ends_at is not None and ends_at - now <= ENDS_SOON:
        days = (ends_at - now) / (86_400 * MICRO)
        return f"date:{ends_at}", lambda unit: f"ends in {days:.0f} days, with {told(rest, unit)} left"
    if rest <= granted * LITTLE:
        return "little", lambda unit: f"has {told(rest, unit)} left of {told(granted, unit)}"
    return None


def told(amount: int, unit: str) -> str:
    """An amount with its unit, as people read it: few digits, never rounded to nothing."""
    value = amount / MICRO
    figure = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{figure} {UNITS.get(unit, unit)}"
