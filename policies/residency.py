"""Where data may be: asked when a stage is placed, when a document brings files to a place, and again by whoever
moves them, just before.

A rule that forbids a side may be waived for one run: one person asks, another one confirms, and it has an end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from policies.model import DataRule, Reason, SiteFacts

BROKER = ""
"""The broker's own store, as transfers call it: documents' files come from there."""
EXPORT_CONTROL = "export_control"
EXPORT_RULE, STAY_RULE = "data.export_control", "data.stay"
WAIVABLE = (EXPORT_RULE, STAY_RULE)
"""Rules that two persons may waive. That a side is known at all is not one of them."""
REFUSED, WAIVED = "refused", "waived"


@dataclass(frozen=True, slots=True, kw_only=True)
class SideFacts:
    """A side of a transfer: a site, or a place."""

    names: frozenset[str]
    """What documents may call it by: of a site also its facility and its profile."""
    clearance: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """One rule does not hold at one side for the run that this is a fact of."""

    id: str
    side: str
    """As transfers call it: a site, or `NAME:` for a place."""
    rule: str
    """One of WAIVABLE."""
    asked_by: str
    confirmed_by: str = ""
    """Empty: nobody has, and it does not hold."""
    ends_at: int
    """µs UTC; from then on it does not hold."""
    withdrawn: bool = False

    def holds(self, now: int) -> bool:
        """Did two different persons agree to it, and is it neither withdrawn nor at its end?"""
        agreed = bool(self.asked_by and self.confirmed_by) and self.asked_by != self.confirmed_by
        return agreed and not self.withdrawn and now < self.ends_at


def in_force(waivers: Iterable[Waiver], *, now: int) -> tuple[Waiver, ...]:
    """Those of a run's waivers that hold now, by id."""
    return tuple(sorted((one for one in waivers if one.holds(now)), key=lambda one: one.id))


def side_of(site: SiteFacts) -> SideFacts:
    """A site as a side."""
    return SideFacts(names=frozenset({site.name, site.facility, site.profile} - {""}), clearance=site.clearance)


def allowed(rule: DataRule | None, side: str, facts: SideFacts | None, waived: Sequence[Waiver] = ()) -> Reason | None:
    """Why data under this rule may not be brought to that side; None: it may.

    `facts`: None for a side that nobody knows (any more), where nothing under a rule may go. `waived`: the run's
    waivers that are in force now.
    """
    return next((reason for reason in judged(rule, side, facts, waived) if reason.verdict == REFUSED), None)


def judged(
    rule: DataRule | None, side: str, facts: SideFacts | None, waived: Sequence[Waiver] = ()
) -> Sequence[Reason]:
    """Each rule that is against that side, in the order in which they are asked, `refused` or `waived`."""
    return tuple(_waived(reason, side, waived) for reason in _against(rule, side, facts))


def _against(rule: DataRule | None, side: str, facts: SideFacts | None) -> Iterable[Reason]:
    if rule is None or side == BROKER or not (rule.export_control or rule.stay):
        return
    name = side.rstrip(":")
    if facts is None:
        yield Reason("data", REFUSED, f"{name} is not in the site document, and the data is under a rule", name)
        return
    if rule.export_control and EXPORT_CONTROL not in facts.clearance:
        fact = f"the data is under export control, and {name} has no clearance for it"
        yield Reason(EXPORT_RULE, REFUSED, fact, name)
    if rule.stay and not facts.names.intersection(rule.stay):
        fact = f"the data stays at {', '.join(rule.stay)}, and {name} is none of them"
        yield Reason(STAY_RULE, REFUSED, fact, name)


def _waived(reason: Reason, side: str, waived: Sequence[Waiver]) -> Reason:
    """The same, with the waiver that takes its force from it, if there is one."""
    one = next((one for one in waived if one.side == side and one.rule == reason.rule), None)
    if one is None or reason.rule not in WAIVABLE:
        return reason
    until = datetime.fromtimestamp(one.ends_at // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    told = f"{one.id}, asked for by {one.asked_by} and confirmed by {one.confirmed_by}, waives that until {until}"
    return Reason(reason.rule, WAIVED, f"{reason.fact}; {told}", reason.site)
