"""Whether a stage leaves a site that cannot be asked.

The job there may well live: nobody can know. So the rule only makes both answers safe, and says when.
Outcomes: `stay` (ask again at `until`), `move`, `ask` (a person decides), `advise` (would move, may not).
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.model import Decision, Reason, Rules, SiteFacts, Tries

MARGIN_FOR_CLOCKS = 60_000_000
"""Microseconds added to a job's absolute end before it counts as surely dead."""


def judge(
    rules: Rules,
    *,
    site: SiteFacts,
    now: int,
    tries: Tries,
    elsewhere: Sequence[SiteFacts],
    stop_before: int | None,
    surely_dead: bool = False,
) -> Decision:
    """Judge one stage whose site does not answer. `elsewhere`: the sites that could take it now, best first."""
    since = site.cannot_ask_since if site.cannot_ask_since is not None else now
    reasons = [Reason("silence", "for", _silence(site, now - since), site.name)]
    if not site.silent:
        reasons.append(Reason("budgets", "stay", "too few looks, or too little time, to call it unreachable"))
        return Decision("failover", "stay", tuple(reasons))
    if site.doubt:
        reasons.append(Reason("self_doubt", "stay", site.doubt))
        return Decision("failover", "stay", tuple(reasons))
    act_at = since + round(rules.failover.after * 1e6)
    if now < act_at:
        reasons.append(Reason("after", "stay", f"failover.after is {rules.failover.after:g} s"))
        return Decision("failover", "stay", tuple(reasons), until=act_at)
    reasons.append(Reason("after", "for", f"silent for longer than failover.after ({rules.failover.after:g} s)"))
    if tries.failovers >= rules.failover.max:
        reasons.append(Reason("max", "ask", f"moved {tries.failovers} times already, failover.max is reached"))
        return _ask(rules, reasons)
    if not elsewhere:
        reasons.append(Reason("elsewhere", "stay", "no other site could take it now"))
        return Decision("failover", "stay", tuple(reasons))
    names = ", ".join(s.name for s in elsewhere)
    reasons.append(Reason("elsewhere", "for", f"could go on at {names}", elsewhere[0].name))
    return _by_duplicates(rules, reasons, now=now, stop_before=stop_before, surely_dead=surely_dead)


def _by_duplicates(
    rules: Rules, reasons: list[Reason], *, now: int, stop_before: int | None, surely_dead: bool
) -> Decision:
    if stop_before is not None and now > stop_before + MARGIN_FOR_CLOCKS:
        surely_dead = True
        reasons.append(
            Reason("stop_before", "for", "the old copy has ended itself by now (its absolute bound is past)")
        )
    if not surely_dead and rules.duplicates == "never":
        until = None if stop_before is None else stop_before + MARGIN_FOR_CLOCKS
        reasons.append(Reason("duplicates", "stay", "duplicates: never, and the old copy is not surely dead"))
        return Decision("failover", "stay", tuple(reasons), until=until)
    if not surely_dead and rules.duplicates == "ask":
        reasons.append(Reason("duplicates", "ask", "duplicates: ask, and the old copy may live"))
        return _ask(rules, reasons)
    if not surely_dead:
        reasons.append(Reason("duplicates", "for", "duplicates: allow; the old copy may live, but one result commits"))
    outcome = {"auto": "move", "ask": "ask", "never": "advise"}[rules.failover.act]
    if outcome != "move":
        reasons.append(Reason("act", outcome, f"failover.act is {rules.failover.act}"))
    return Decision("failover", outcome, tuple(reasons))


def _ask(rules: Rules, reasons: list[Reason]) -> Decision:
    """A person decides; or is told only, where nothing may be done."""
    if rules.failover.act == "never":
        reasons.append(Reason("act", "advise", "failover.act is never"))
        return Decision("failover", "advise", tuple(reasons))
    return Decision("failover", "ask", tuple(reasons))


def _silence(site: SiteFacts, span: int) -> str:
    words = f"{site.name} could not be asked for {span / 1e6:.0f} s, {site.probes} looks"
    return f"{words}: {site.detail}" if site.detail else words
