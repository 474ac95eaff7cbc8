"""The storm brake: how many stages are carried elsewhere within a minute, and when the next one may go. Pure.

A site that dies with a thousand stages must not become a thousand submissions at once elsewhere. Two windows hold at
any time: no more than the cap within a minute, no more than a sixth of it within ten seconds. Lanes share one brake:
the rest of it is kept for those that are more urgent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from policies.tunable import tunable

PER_MINUTE = 120
"""Stages of the whole installation, unless it says otherwise (CROSSFADE_FAILOVERS_PER_MINUTE)."""
TO_ONE_SITE = 60
"""Stages to one site, unless it says how many jobs it takes a minute, or how many of these."""
MINUTE, SPURT = 60_000_000, 10_000_000
"""Microseconds of both windows."""
SHARES: Mapping[str, float] = {"urgent": 1.0, "normal": 0.75, "preemptible": 0.5}
"""Parts of a cap that a lane may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakeNumbers:
    """How many stages are carried elsewhere within a minute, where nobody says otherwise; 0: any number."""

    per_minute: int = tunable(PER_MINUTE, least=0, most=999_999)
    to_one_site: int = tunable(TO_ONE_SITE, least=0, most=999_999)


class Carried(NamedTuple):
    """A stage that was carried elsewhere."""

    at: int
    site: str
    """Where it went."""


def share_of(cap: int, lane: str) -> int:
    """How many stages of a lane may be carried within a minute where all together may be `cap`."""
    return max(1, int(cap * SHARES[lane]))


def spurt_of(cap: int, lane: str) -> int:
    """The same within ten seconds."""
    return -(-share_of(cap, lane) // 6)


def next_slot(carried: Sequence[int], *, cap: int, lane: str, now: int) -> int:
    """When one more may be carried (µs); `now` if at once. `carried`: when others were, in order, at least those of
    the last minute; `cap`: how many may be within a minute, 0: none ever is held up."""
    if cap <= 0:
        return now
    at = now
    for most, window in ((share_of(cap, lane), MINUTE), (spurt_of(cap, lane), SPURT)):
        if len(carried) >= most:
            at = max(at, carried[-most] + window)
    return at


def turn(slot: int, *, rank: int, spurt: int, identity: str) -> int:
    """When to ask again (µs), of a stage that waits with `rank` others before it where `spurt` of them go every ten
    seconds: who cannot be served by then need not ask. `identity`: of the stage; a few seconds that depend on nothing
    else keep those of one rank apart."""
    return slot + rank // max(1, spurt) * SPURT + jitter(identity, SPURT // 4)


def jitter(identity: str, most: int) -> int:
    """A number below `most`, always the same for one identity, and spread evenly over many."""
    return crc32(identity.encode()) * most >> 32
