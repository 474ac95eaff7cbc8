"""How often: checkpoints, and copies of them elsewhere, by what one costs and how often something is lost. Pure.

Young (1974) and Daly (2006): whoever saves too often pays for saving, whoever saves too rarely pays with work done
twice; between them the best interval is about sqrt(2 * cost * mean time between losses).
"""

from __future__ import annotations

from math import sqrt

from policies.model import Decision, Reason

URGENT = 16.0
"""How much more an hour of urgent work counts than one of other work: four times as often."""
COST = 60.0
"""Seconds that writing a checkpoint is taken to cost the payload before one was seen."""
COST_FIXED, COST_RATE = 5.0, 1e9
"""Of one whose size is known: seconds to come to a halt, and bytes per second to the site's file system."""


def young(cost: float, between_losses: float, *, weight: float = 1.0) -> float:
    """Seconds between two; never less than one costs. `weight`: of an hour lost against an hour spent."""
    return max(cost, sqrt(2 * cost * between_losses / weight))


def daly(cost: float, between_losses: float) -> float:
    """Seconds of work between two, with the terms that matter when losses are frequent. Above zero."""
    if cost >= 2 * between_losses:
        return between_losses
    ratio = sqrt(cost / (2 * between_losses))
    return sqrt(2 * cost * between_losses) * (1 + ratio / 3 + ratio**2 / 9) - cost


def ask_every(*, site: str, between_losses: float, bytes: int | None, urgent: bool) -> Decision:  # noqa: A002
    """`checkpoint.every: auto`: how often the payload is asked, for a whole attempt. `bytes`: of the checkpoint that it
    starts from, None if it starts from none. Outcome `ask`; `every` in the facts, whole seconds."""
    cost = COST if bytes is None else COST_FIXED + bytes / COST_RATE
    weight = URGENT if urgent else 1.0
    every = max(1, round(daly(cost, between_losses / weight)))
    seen = "none was seen yet" if bytes is None else f"the one that it starts from has {amount(bytes)}"
    words = f"a checkpoint is taken to cost {span(cost)} ({seen})"
    reasons = [
        Reason("cost", "for", words),
        Reason("losses", "for", f"{site} is lost every {span(between_losses)}", site),
    ]
    if urgent:
        reasons.append(Reason("urgent", "for", f"an hour of urgent work counts as {URGENT:g}"))
    reasons.append(Reason("daly", "chosen", f"so it is asked for one every {span(every)}", site))
    facts = {"every": every, "cost": round(cost, 3), "between_losses": between_losses, "weight": weight}
    return Decision("interval", "ask", tuple(reasons), site=site, facts=facts)


def span(seconds: float) -> str:
    """A duration in words that fit it: 45 s, 12 min, 3.5 h, 30 d."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{_short(seconds / size)} {unit}"
    return f"{_short(seconds)} s"


def amount(count: int) -> str:
    """Bytes in words that fit them: 12 MB, 1.5 TB."""
    for size, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= size:
            return f"{_short(count / size)} {unit}"
    return f"{count} bytes"


def _short(figure: float) -> str:
    return f"{figure:.0f}" if figure >= 10 else f"{figure:.1f}".removesuffix(".0")
