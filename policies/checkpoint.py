"""Which checkpoint a stage starts from. Where copies go beforehand is judged in policies.shipping.

Outcomes of `choose`: `restore` (facts name the copy) or `from_start`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from policies.model import CheckpointFacts, Decision, Reason


def readable_from(
    checkpoints: Iterable[CheckpointFacts], target: str, *, dark: Collection[str] = ()
) -> list[CheckpointFacts]:
    """The copies that can be brought to `target`: its own, and those at sites that are not dark."""
    return [c for c in checkpoints if c.site == target or c.site not in dark]


def choose(
    checkpoints: Sequence[CheckpointFacts], *, target: str, dark: Collection[str], started_before: bool
) -> tuple[CheckpointFacts | None, Decision]:
    """The newest usable checkpoint for a start at `target`. `dark`: sites that do not answer."""
    usable = readable_from(checkpoints, target, dark=dark)
    best = max(usable, key=lambda c: (c.seq, c.site == target, c.attempt, c.generation), default=None)
    reasons = [
        Reason("readable", "refused", f"checkpoint {c.seq} at {c.site} cannot be read: {c.site} is dark", c.site)
        for c in checkpoints
        if c.site in dark and c.site != target and (best is None or c.seq > best.seq)
    ]
    if best is None:
        fact = "no verified checkpoint can be read" if started_before else "nothing was started before"
        return None, Decision("checkpoint", "from_start", (*reasons, Reason("newest", "from_start", fact)))
    fact = f"checkpoint {best.seq} of attempt {best.attempt}, verified, read from {best.site}"
    reasons.append(Reason("newest", "chosen", fact, best.site))
    facts: dict[str, object] = {"seq": best.seq, "attempt": best.attempt, "generation": best.generation}
    facts |= {"site": best.site, "newest_readable": max(c.seq for c in usable)}
    return best, Decision("checkpoint", "restore", tuple(reasons), site=best.site, facts=facts)
