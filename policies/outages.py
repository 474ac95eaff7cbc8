"""How long an outage still lasts, and whether a job lives meanwhile: what is expected, and from what. Pure.

Outage durations are heavy-tailed: the longer one has lasted, the longer it will last. Where a site has had enough
outages that lasted as long as this one has, their mean residual life is the answer (an empirical hazard); else that of
a Pareto distribution with shape 1.5, which is twice what has passed. Either is capped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policies.intervals import span

ALPHA = 1.5
"""Shape of the Pareto tail. Its mean residual life after t is t / (ALPHA - 1)."""
FEW = 3
"""Past outages that lasted longer than this one has, from which on they are believed rather than the tail."""
LONGEST = 86_400.0
"""Seconds: nobody is told to expect more than a day."""
KEPT = 200
"""The newest outages of a site that are looked at."""

API_ONLY, UNKNOWN, ALL_DARK = 0.95, 0.7, 0.1
"""P(a job lives though its site gives no answer): where something else of the site works; where nobody knows, and an
interface that is down while jobs run is common; where the machine itself is said, or was seen, to be down."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A figure, and where it is from."""

    value: float
    source: str


def still_lasts(past: Sequence[float], elapsed: float) -> Expected:
    """Seconds that an outage goes on which has lasted `elapsed`. `past`: the site's former ones, seconds."""
    longer = [each for each in past[-KEPT:] if each > elapsed]
    if len(longer) >= FEW:
        mean = sum(longer) / len(longer) - elapsed
        return Expected(min(LONGEST, mean), f"{len(longer)} of its {len(past)} outages lasted longer than this one has")
    return Expected(min(LONGEST, elapsed / (ALPHA - 1)), "twice what has passed: too few of its outages lasted longer")


def alive(*, surely_dead: bool, compute_down: str, heard: str) -> Expected:
    """The probability that the copy there lives. `compute_down`: what says that the machine itself is down; `heard`:
    what of the site was seen to work since it fell silent."""
    if surely_dead:
        return Expected(0.0, "nothing of it can live")
    if compute_down:
        return Expected(ALL_DARK, compute_down)
    if heard:
        return Expected(API_ONLY, heard)
    return Expected(UNKNOWN, "nobody knows whether more than its interface is down")


def told(site: str, lasts: Expected, lives: Expected) -> str:
    """Both in one sentence."""
    return (
        f"{site} is expected back in {span(lasts.value)} ({lasts.source}); "
        f"the copy there lives with probability {lives.value:g} ({lives.source})"
    )
