"""What is simulated beside the outages: the stage, what saving and moving cost, how many starts. Durations: seconds."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from broker.errors import UsageError

MOST_MARKS = 5000
ON_THE_MINUTE = 60
"""Starts are whole minutes after a trace's beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The published setting of such studies, unless said otherwise."""

    stage: float = 12 * 3600.0
    """Work of the stage, without checkpoints and without misfortune."""
    every: float = 900.0
    """Work between two checkpoints."""
    cost: float = 30.0
    """What the stage stands still for while one is written."""
    detection: float = 120.0
    """From the moment in which a site goes dark until it counts as unreachable."""
    move: float = 300.0
    """From the decision to go on at another site until the stage works there, its checkpoint read."""
    limit: float = 96 * 3600.0
    """A start that has no result by then counts as not done."""
    starts: int = 200
    seed: int = 1
    charge: Mapping[str, float] | None = None
    """What a node-hour costs at which site, in node-hours; 1 where it is not named. None: nothing is booked."""

    def __post_init__(self) -> None:
        """Raises UsageError for what cannot be simulated."""
        if self.every < 1 or self.detection < 1 or self.cost < 0 or self.move < 0:
            raise UsageError("a checkpoint's interval and the detection take at least 1 s; nothing takes less than 0 s")
        if self.limit < self.stage:
            raise UsageError("the limit is shorter than the stage", help="raise --limit-hours")
        if self.marks > MOST_MARKS:
            raise UsageError(f"{self.marks} checkpoints are more than {MOST_MARKS}", help="save more rarely")

    @property
    def marks(self) -> int:
        """Checkpoints in the whole stage: one after every `every` of work, none at its very end."""
        return max(0, ceil(self.stage / self.every) - 1)

    @property
    def lap(self) -> float:
        """From one checkpoint to the end of writing the next."""
        return self.every + self.cost

    @property
    def whole(self) -> float:
        """The stage with its checkpoints, undisturbed."""
        return self.stage + self.marks * self.cost

    def rest(self, mark: int) -> float:
        """From checkpoint `mark` (0: from the start) to the end, undisturbed."""
        return self.whole - mark * self.lap

    def starts_in(self, length: float) -> Sequence[float]:
        """The random starts, in order; none so late that the limit reaches beyond the traces, which are `length` long.

        Traces that are shorter than the limit: starts in their first half.
        """
        rng = random.Random(self.seed)  # noqa: S311 - a reproducible study, no secret
        last = length - self.limit if length > 2 * self.limit else length / 2
        return sorted(rng.randrange(int(last // ON_THE_MINUTE) + 1) * float(ON_THE_MINUTE) for _ in range(self.starts))
