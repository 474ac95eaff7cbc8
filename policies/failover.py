"""Whether a stage leaves a site that cannot be asked.

The job there may well live: nobody can know. So the rule only makes both answers safe, and says when.
Outcomes: `stay` (ask again at `until`), `move`, `ask` (a person decides), `advise` (would move, may not).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from policies.leaving import (
    USUAL,
    LeavingNumbers,
    Prospect,
    Weighed,
    acts_after,
    again_at,
    lane_of,
    last_call,
    waits_for_death,
    weigh,
)
from policies.model import Decision, Reason, Rules, SiteFacts, Tries

MARGIN_FOR_CLOCKS = 60_000_000
"""Microseconds added to a job's absolute end before it counts as surely dead."""


def may_leave(rules: Rules, site: SiteFacts, now: int, numbers: LeavingNumbers = USUAL) -> bool:
    """Is the time over in which no stage leaves, whatever is expected?"""
    since = site.cannot_ask_since
    return site.silent and not site.doubt and since is not None and now >= _acts_at(rules, since, numbers)[0]


def judge(
    rules: Rules,
    *,
    site: SiteFacts,
    now: int,
    tries: Tries,
    elsewhere: Sequence[SiteFacts],
    stop_before: int | None,
    surely_dead: bool = False,
    prospect: Prospect | None = None,
    past: Sequence[float] = (),
    numbers: LeavingNumbers = USUAL,
) -> Decision:
    """Judge one stage whose site does not answer. `elsewhere`: the sites that could take it now, best first;
    `prospect`: when it would be done here and there, None where nobody can tell; `past`: what the site's former
    outages lasted, seconds."""
    since = site.cannot_ask_since if site.cannot_ask_since is not None else now
    reasons = [Reason("silence", "for", _silence(site, now - since), site.name)]
    if not site.silent:
        reasons.append(Reason("budgets", "stay", "too few looks, or too little time, to call it unreachable"))
        return Decision("failover", "stay", tuple(reasons))
    if site.doubt:
        reasons.append(Reason("self_doubt", "stay", site.doubt))
        return Decision("failover", "stay", tuple(reasons))
    act_at, words = _acts_at(rules, since, numbers)
    if now < act_at:
        reasons.append(Reason("after", "stay", words))
        return Decision("failover", "stay", tuple(reasons), until=act_at)
    reasons.append(Reason("after", "for", f"silent for longer than {words.replace(' is ', ' (')})"))
    if tries.failovers >= rules.failover.max:
        reasons.append(Reason("max", "ask", f"moved {tries.failovers} times already, failover.max is reached"))
        return _ask(rules, reasons, elsewhere)
    if not elsewhere:
        reasons.append(Reason("elsewhere", "stay", "no other site could take it now"))
        return Decision("failover", "stay", tuple(reasons))
    names = ", ".join(s.name for s in elsewhere)
    reasons.append(Reason("elsewhere", "for", f"could go on at {names}", elsewhere[0].name))
    dead_at = None if stop_before is None else stop_before + MARGIN_FOR_CLOCKS
    if dead_at is not None and now > dead_at:
        surely_dead = True
        reasons.append(
            Reason("stop_before", "for", "the old copy has ended itself by now (its absolute bound is past)")
        )
    weighed = (
        weigh(rules, prospect, site=site, now=now, past=past, surely_dead=surely_dead, numbers=numbers)
        if prospect
        else None
    )
    facts = weighed.facts if weighed else {}
    until = (
        None
        if surely_dead
        else _stays(rules, reasons, weighed, prospect, since=since, now=now, dead_at=dead_at, numbers=numbers)
    )
    if until is not None:
        return Decision("failover", "stay", tuple(reasons), until=until, facts=facts)
    decided = _by_duplicates(rules, reasons, elsewhere, dead_at=dead_at, surely_dead=surely_dead)
    return replace(decided, facts=facts)


def _acts_at(rules: Rules, since: int, numbers: LeavingNumbers) -> tuple[int, str]:
    """When a stage may leave at the earliest, and by which rule."""
    after = acts_after(rules, numbers)
    own = "failover.after" if after == rules.failover.after else "the patience of urgent work"
    return since + round(after * 1e6), f"{own} is {after:g} s"


def _stays(
    rules: Rules,
    reasons: list[Reason],
    weighed: Weighed | None,
    prospect: Prospect | None,
    *,
    since: int,
    now: int,
    dead_at: int | None,
    numbers: LeavingNumbers,
) -> int | None:
    """Until when staying is better than leaving, though it may leave; None: it is not. The last reason's words are
    the same at each look, so that the same decision is told once."""
    waits = waits_for_death(rules, since, dead_at, now)
    if waits is not None:
        reasons.append(Reason("lane", "stay", "preemptible work waits for the sure end of its old copy"))
        return waits
    if weighed is None or prospect is None:
        return None
    reasons.append(weighed.reason)
    if weighed.leaves:
        return None
    if not prospect.learned:
        fact = "but nobody has seen how long its work takes, and an upper bound keeps nothing waiting"
        reasons.append(Reason("learned", "for", fact))
        return None
    if now >= last_call(rules, since, numbers):
        reasons.append(Reason("last_call", "for", f"{numbers.last:g} x failover.after are over: the waiting ends"))
        return None
    fact = f"staying is expected to be sooner, as a stage of lane {lane_of(rules)} counts it"
    reasons.append(Reason("gain", "stay", fact))
    return again_at(rules, since, now, numbers)


def _by_duplicates(
    rules: Rules, reasons: list[Reason], elsewhere: Sequence[SiteFacts], *, dead_at: int | None, surely_dead: bool
) -> Decision:
    if not surely_dead and rules.duplicates == "never":
        reasons.append(Reason("duplicates", "stay", "duplicates: never, and the old copy is not surely dead"))
        return Decision("failover", "stay", tuple(reasons), until=dead_at)
    if not surely_dead and rules.duplicates == "ask":
        reasons.append(Reason("duplicates", "ask", "duplicates: ask, and the old copy may live"))
        return _ask(rules, reasons, elsewhere)
    if not surely_dead:
        reasons.append(Reason("duplicates", "for", "duplicates: allow; the old copy may live, but one result commits"))
    outcome = {"auto": "move", "ask": "ask", "never": "advise"}[rules.failover.act]
    if outcome != "move":
        reasons.append(Reason("act", outcome, f"failover.act is {rules.failover.act}"))
    return Decision("failover", outcome, tuple(reasons), site=elsewhere[0].name)


def _ask(rules: Rules, reasons: list[Reason], elsewhere: Sequence[SiteFacts]) -> Decision:
    """A person decides; or is told only, where nothing may be done."""
    outcome, best = "ask", elsewhere[0].name if elsewhere else ""
    if rules.failover.act == "never":
        reasons.append(Reason("act", "advise", "failover.act is never"))
        outcome = "advise"
    return Decision("failover", outcome, tuple(reasons), site=best)


def _silence(site: SiteFacts, span: int) -> str:
    words = f"{site.name} could not be asked for {span / 1e6:.0f} s, {site.probes} looks"
    return f"{words}: {site.detail}" if site.detail else words
