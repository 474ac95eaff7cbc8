"""Self-doubt: when several sites fall silent together, the fault is more likely ours. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

TOGETHER = 120.0
"""Seconds within which silences count as having begun together. Idle sites are looked at every 15 s, others down to
every 8 polls, and a call may take a minute to fail: the same cut is seen that much apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dark:
    """Something that gives no answer."""

    name: str
    owner: str
    """Its facility: what fails for one reason of its own. A witness, a service that is no site, is its own."""
    since: int
    provider: str = ""
    """Whose it is: what several facilities fail together for, and is no fault of ours. Empty: nobody's but its own."""
    excused: bool = False
    """An operator has said that this one is really down: it accuses nobody, and is doubted no more."""


def companions(dark: Dark, others: Collection[Dark]) -> tuple[Dark, ...]:
    """Those of other owners that fell silent together with it; none: the fault may well be its own."""
    if dark.excused:
        return ()
    reach = round(TOGETHER * 1e6)
    together = (
        other
        for other in others
        if not _fail_together(dark, other) and not other.excused and abs(other.since - dark.since) <= reach
    )
    return tuple(sorted(together, key=lambda other: (other.since, other.name)))


def _fail_together(one: Dark, other: Dark) -> bool:
    """Have they a reason of their own to go dark together?"""
    return one.owner == other.owner or (bool(one.provider) and one.provider == other.provider)


def words(dark: Dark, together: Collection[Dark]) -> str:
    """Why nothing is done about it."""
    names = ", ".join(other.name for other in together)
    apart = max(abs(other.since - dark.since) for other in together) / 1e6
    return f"{dark.name} fell silent together with {names} ({apart:.0f} s apart): more likely it is us than they"
