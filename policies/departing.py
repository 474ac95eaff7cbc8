"""When a stage leaves a site that answers: because an operator has it evacuated, or its maintenance is near. Pure.

It is asked for a checkpoint first, where it can be. Outcomes: `stay` (ask again at `until`), `ask` (for a checkpoint),
`leave` (it is ended there, and goes on elsewhere from the newest good checkpoint).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policies.intervals import span
from policies.model import Decision, Reason, SiteFacts
from policies.shipping import AWAY

PATIENCE = 600.0
"""Seconds that a checkpoint which was asked for is waited for."""
AHEAD = 300.0
"""Seconds before a maintenance at which a checkpoint is asked for, beside twice the time that a copy takes."""
LEAVES = 120.0
"""Seconds before a maintenance at which it is ended there, beside twice that time: it must be confirmed, and its
checkpoint read, while the site answers."""
LOOK_AGAIN = 30_000_000
"""Microseconds until it is asked again whether another site could take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """Why it is to leave, and by when."""

    rule: str
    """evacuate or window."""
    words: str
    by: int
    """Microseconds UTC; for an evacuation the moment itself."""
    back: int | None = None
    """When it could go on there again; None: nobody says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What would be carried away. Times in microseconds UTC."""

    running: bool
    began: int | None
    """When its newest start was; None: it has not started."""
    ends_by: int | None
    """Its time limit; None: there is none, or it has not started."""
    asks: bool
    """Can the payload be asked for a checkpoint?"""
    asked_at: int | None
    good_at: int | None
    """When its newest good checkpoint was found good; None: there is none."""
    saving: bool
    """Is a newer checkpoint there that is not known to be good yet?"""
    copy: float
    """Seconds that a copy of its checkpoint takes to the site that would take it."""


def leave(going: Departure, work: Work, *, at: SiteFacts, elsewhere: Sequence[SiteFacts], now: int) -> Decision:
    """Judge a stage at a site that answers. `elsewhere`: the sites that could take it now, best first."""
    reasons = [Reason(going.rule, "for", going.words, at.name)]
    planned = going.rule == "window"
    if planned and (early := _too_early(going, work, reasons, now)) is not None:
        return early
    if (decision := _asked_first(going, work, reasons, now)) is not None:
        return decision
    if planned and work.running and work.good_at is None:
        fact = "it has no checkpoint to go on from: it stays as long as it may, and starts again where it can"
        return _stay(reasons, Reason("checkpoint", "stay", fact))
    if planned and now < (last := going.by - round((LEAVES + 2 * work.copy) * 1e6)):
        return _stay(reasons, Reason("last_moment", "stay", "it works on until shortly before"), until=last)
    if not elsewhere:
        reason = Reason("elsewhere", "stay", "no other site could take it now")
        return _stay(reasons, reason, until=now + LOOK_AGAIN)
    target = elsewhere[0]
    if planned and (waits := _sooner_there(going, work, target)) is not None:
        return _stay(reasons, waits)
    reasons.append(_goes(work, target, now))
    return Decision("leaving", "leave", tuple(reasons), site=target.name)


def _too_early(going: Departure, work: Work, reasons: list[Reason], now: int) -> Decision | None:
    if work.ends_by is not None and work.ends_by <= going.by:
        return _stay(reasons, Reason("time_limit", "stay", "its time limit is before that"))
    begins = going.by - round((AHEAD + LEAVES + 2 * work.copy) * 1e6)
    if now >= going.by:
        return _stay(reasons, Reason("begun", "stay", "that has begun: what is left there, its site ends or keeps"))
    if now < begins:
        return _stay(reasons, Reason("early", "stay", f"that is {span((going.by - now) / 1e6)} away"), until=begins)
    return None


def _asked_first(going: Departure, work: Work, reasons: list[Reason], now: int) -> Decision | None:
    """What runs saves itself before it leaves, as well as it can."""
    if not work.running:
        return None
    if work.asks and work.asked_at is None:
        reasons.append(Reason("ask", "ask", "it is asked for a checkpoint first"))
        return Decision("leaving", "ask", tuple(reasons))
    since = work.asked_at if work.asked_at is not None else now if work.saving else None
    if since is None or (not work.saving and work.good_at is not None and work.good_at >= since):
        return None
    until = since + round(PATIENCE * 1e6)
    if going.rule == "window":
        until = min(until, going.by - round((LEAVES + 2 * work.copy) * 1e6))
    if now < until:
        return _stay(reasons, Reason("saving", "stay", "its checkpoint is waited for"), until=until)
    reasons.append(Reason("saving", "for", "no newer checkpoint came in time"))
    return None


def _sooner_there(going: Departure, work: Work, target: SiteFacts) -> Reason | None:
    """Would it be done sooner if it waited for the site's return? What it has saved is as good here as there."""
    away = (going.back - going.by) / 1e6 if going.back is not None else AWAY
    if work.copy < away:
        return None
    fact = f"carrying it to {target.name} takes {span(work.copy)}, and the site is back after {span(away)}: it waits"
    return Reason("sooner", "stay", fact, target.name)


def _goes(work: Work, target: SiteFacts, now: int) -> Reason:
    if work.good_at is None and work.running and work.began is not None:
        lost = span(max(0.0, (now - work.began) / 1e6))
        return Reason("elsewhere", "for", f"it starts anew at {target.name}: {lost} of work are lost", target.name)
    if work.good_at is None:
        return Reason("elsewhere", "for", f"it has not started: it goes to {target.name}", target.name)
    age = span(max(0.0, (now - work.good_at) / 1e6))
    fact = f"it goes on at {target.name}, from a checkpoint that is {age} old"
    return Reason("elsewhere", "for", fact, target.name)


def _stay(reasons: list[Reason], last: Reason, until: int | None = None) -> Decision:
    return Decision("leaving", "stay", (*reasons, last), until=until)
