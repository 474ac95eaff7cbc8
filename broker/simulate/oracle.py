"""What nobody can beat: who knows all outages beforehand, and pays what everybody pays.

The oracle writes the same checkpoints at the same cost, stays or goes as it likes, and waits where that is better.
Going to another site takes detection + move from the moment in which it leaves, also when it leaves a site that is
about to go dark: it knows of the outage, but whoever does not know needs the detection, and a figure that compares the
two should not count what no policy without foresight could save. Where a site was back before the outage was
detected, leaving takes the move alone from then on. Starting again at the same site costs nothing.

The earliest finish is a shortest path over (checkpoint, site). Being at a checkpoint at a site earlier is never
worse: whoever is early can wait. So one time per pair is enough, and one pass over the checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.simulate.setting import Setting
from broker.simulate.uptime import Uptime


def best_span(sites: Sequence[Uptime], setting: Setting, start: float) -> float | None:
    """Seconds from `start` to the result, at best; None: nobody could have it within the limit."""
    at: list[float | None] = [start] * len(sites)
    free = True  # the first start is no move
    for _ in range(setting.marks):
        at = [_reached(sites, here, at, setting.lap, setting, free=free) for here in range(len(sites))]
        free = False
        if all(time is None for time in at):
            return None
    last = setting.rest(setting.marks)
    ends = [_reached(sites, here, at, last, setting, free=free) for here in range(len(sites))]
    spans = [end - start for end in ends if end is not None]
    best = min(spans, default=None)
    return best if best is not None and best <= setting.limit else None


def _reached(
    sites: Sequence[Uptime], here: int, at: Sequence[float | None], work: float, setting: Setting, *, free: bool
) -> float | None:
    """When so much more work is done at site `here`, without a break, coming from wherever is best."""
    ends = []
    for there, time in enumerate(at):
        if time is None:
            continue
        arrives = time if free or there == here else _arrives(sites[there], time, setting)
        spell = sites[here].next_spell(arrives, lasting=work)
        if spell is not None:
            ends.append(spell[0] + work)
    return min(ends, default=None)


def _arrives(left: Uptime, at: float, setting: Setting) -> float:
    """When who leaves a site at `at`, or after its next outage if that is sooner, can work elsewhere."""
    known = at + setting.detection
    down = left.end_of_spell(at)
    back = left.next_spell(down) if down is not None else None
    if down is not None and back is not None:
        known = min(known, max(back[0], down))
    return known + setting.move
