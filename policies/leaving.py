"""What staying at a dark site is expected to cost against going on elsewhere, by lane. Pure.

With p = P(the copy there lives), D = what the outage still lasts, r = work left in that copy, and T + Q = until the
stage would be done elsewhere (files, queue, and the work since the newest checkpoint that can be read from there):

    stay  = p max(D, r) + (1 - p) (D + T + Q)
    leave = T + Q                 price = p Q x (what a second done twice is worth)

A stage leaves when stay - leave > margin + price. Lanes differ in what a second of delay is worth against a second of
work done twice. Nobody is kept for ever: what is weighed so counts until `LAST` times `failover.after` are over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from policies.intervals import span
from policies.model import Reason, Rules, SiteFacts
from policies.outages import LONGEST, alive, still_lasts, told
from policies.tunable import tunable

MARGIN = 60.0
"""Seconds that leaving must gain: a forecast is no better than that."""
EARLY = 180.0
"""Seconds of silence after which urgent work leaves, where the document says nothing of its own."""
USUAL_AFTER = 900.0
"""Seconds: `failover.after` of a document that says nothing of it."""
LAST = 4.0
"""Times `failover.after`: the end of «wait a bit more»."""
AGAIN = 30.0
"""Seconds, at the least, until it is weighed again; a quarter of what has passed, where that is more."""

PRICES: Mapping[str, float] = {"urgent": 0.0, "normal": 0.25, "preemptible": 1.0}
"""Seconds of delay that a second of work done twice is worth, by lane (`budget.resilience` is 25 % as a rule)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Seconds of delay that a second of work done twice is worth, by lane."""

    urgent: float = tunable(PRICES["urgent"], least=0.0, most=10.0)
    normal: float = tunable(PRICES["normal"], least=0.0, most=10.0)
    preemptible: float = tunable(PRICES["preemptible"], least=0.0, most=10.0)

    def of(self, lane: str) -> float:
        return {"urgent": self.urgent, "normal": self.normal, "preemptible": self.preemptible}[lane]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeavingNumbers:
    """How staying is weighed against leaving."""

    margin: float = tunable(MARGIN, least=0.0, most=86_400.0)
    """Seconds that leaving must gain: the dead band."""
    early: float = tunable(EARLY, least=0.0, most=86_400.0)
    """Seconds of silence after which urgent work leaves, where the document says nothing of its own."""
    last: float = tunable(LAST, least=1.0, most=1000.0)
    """Times `failover.after`: the end of «wait a bit more»."""
    again: float = tunable(AGAIN, least=1.0, most=3600.0)
    """Seconds, at the least, until it is weighed again."""
    prices: Prices = field(default_factory=Prices)


USUAL = LeavingNumbers()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """What is known of a stage at the moment; seconds."""

    left: float
    """Work left in the copy at the dark site, if it lives."""
    elsewhere: float
    """Until it would be done at the best other site."""
    rerun: float
    """Of that, the work."""
    site: str
    """The best other site."""
    learned: bool = True
    """False: the work is only bounded by its walltime. Such a figure keeps no stage waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """Both sides; seconds from now."""

    stay: float
    leave: float
    price: float
    reason: Reason
    facts: Mapping[str, object]
    margin: float = MARGIN

    @property
    def gain(self) -> float:
        """What leaving saves, its price paid."""
        return self.stay - self.leave - self.price

    @property
    def leaves(self) -> bool:
        return self.gain > self.margin


def lane_of(rules: Rules) -> str:
    """The lane that the document wants before all others."""
    return rules.lane[0] if rules.lane else "normal"


def acts_after(rules: Rules, numbers: LeavingNumbers = USUAL) -> float:
    """Seconds of silence before which a stage never leaves: `failover.after`; urgent work's is shorter, unless its
    document says something of its own (what it says and what it leaves out are one where both are 15 min)."""
    after = rules.failover.after
    return min(after, numbers.early) if lane_of(rules) == "urgent" and after == USUAL_AFTER else after


def weigh(
    rules: Rules,
    prospect: Prospect,
    *,
    site: SiteFacts,
    now: int,
    past: Sequence[float],
    surely_dead: bool,
    numbers: LeavingNumbers = USUAL,
) -> Weighed:
    """Weigh staying against leaving. `past`: what the site's former outages lasted, seconds."""
    since = site.cannot_ask_since if site.cannot_ask_since is not None else now
    lasts = still_lasts(past, (now - since) / 1e6)
    lives = alive(surely_dead=surely_dead, compute_down=site.compute_down, heard=site.heard)
    p, leave = lives.value, prospect.elsewhere
    stay = p * max(lasts.value, prospect.left) + (1 - p) * (lasts.value + leave)
    price = p * prospect.rerun * numbers.prices.of(lane_of(rules))
    words = f"{told(site.name, lasts, lives)}; done in {span(stay)} if it stays, in {span(leave)} at {prospect.site}"
    words += f", where {span(prospect.rerun)} of work may be done twice" if price else ""
    facts = {
        "stay": round(stay, 1),
        "leave": round(leave, 1),
        "price": round(price, 1),
        "outage_lasts": round(lasts.value, 1),
        "lives": p,
        "left": round(prospect.left, 1),
    }
    verdict = "for" if stay - leave - price > numbers.margin else "against"
    return Weighed(
        stay=stay,
        leave=leave,
        price=price,
        reason=Reason("weighed", verdict, words, site.name),
        facts=facts,
        margin=numbers.margin,
    )


def last_call(rules: Rules, since: int, numbers: LeavingNumbers = USUAL) -> int:
    """When whatever was weighed counts no more (µs)."""
    return since + round(numbers.last * acts_after(rules, numbers) * 1e6)


def again_at(rules: Rules, since: int, now: int, numbers: LeavingNumbers = USUAL) -> int:
    """When to weigh again (µs)."""
    return min(last_call(rules, since, numbers), now + round(max(numbers.again * 1e6, (now - since) / 4)))


def waits_for_death(rules: Rules, since: int, dead_at: int | None, now: int) -> int | None:
    """Of preemptible work: until when it waits for the end of its old copy, which costs nobody anything; None: it
    waits no more. `dead_at`: when that copy is surely dead (µs). A day of silence is enough in any case."""
    if lane_of(rules) != "preemptible" or dead_at is None:
        return None
    until = min(dead_at, since + round(max(LONGEST, acts_after(rules)) * 1e6))
    return until if until > now else None
