"""What came of a demonstration, and whether all of it is as promised. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from broker.cli.demo.ground import Lost
from broker.cli.demo.measured import Pace
from broker.cli.demo.script import STAGE, Script


class Move(NamedTuple):
    """A stage that went on at another site."""

    stage: str
    origin: str
    target: str
    seq: int
    """Of the checkpoint it went on from; 0: from none."""


class Moment(NamedTuple):
    """A line of the timeline."""

    seconds: float
    """Since the run was submitted."""
    who: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything here was read from stored rows, from files that the jobs wrote, or from a clock."""

    script: Script
    lost: Lost
    run: str
    run_undisturbed: str
    failures: Sequence[str]
    """Runs that did not succeed, in words."""
    moved: Sequence[Move]
    tried_again_undisturbed: Sequence[Move]
    """Further attempts in the run to compare with: there should be none."""
    slices: Mapping[int, int]
    """By attempt: the slices that it really computed."""
    slices_undisturbed: int
    pace: Pace
    """Of the attempt whose site was lost."""
    digest: str
    digest_undisturbed: str
    """Empty: that run left none."""
    violations: Sequence[str]
    """What the audit of both runs found."""
    picture: Path | None
    connectors: Mapping[str, str]
    """Which connector reaches each site."""
    submissions: Mapping[str, int]
    """How many submissions the facilities accepted, per job name."""
    transfers: Sequence[Mapping[str, Any]]
    """What Globus carried, as `crossfade transfer ls` lists it, the oldest first."""
    needed: Mapping[str, bool]
    """What had to be carried by it, and was it?"""
    requests: Mapping[str, int]
    """How many requests each face of a facility answered."""
    timeline: Sequence[Moment]
    decisions: Sequence[Mapping[str, Any]]
    """About the stage that moved, as `explain` has them."""
    seconds: float

    @property
    def same(self) -> bool:
        """Are both results the same, bit for bit?"""
        return bool(self.digest) and self.digest == self.digest_undisturbed

    @property
    def computed(self) -> int:
        """Slices, all attempts together."""
        return sum(self.slices.values())

    @property
    def carried_over(self) -> int:
        """Slices that the last attempt did not compute again."""
        last = self.slices[max(self.slices)] if self.slices else 0
        return max(0, self.slices_undisturbed - last)

    @property
    def saved_seconds(self) -> float:
        """What computing these again would have taken, at the pace that was measured."""
        return self.carried_over * self.pace.per_slice

    @property
    def problems(self) -> list[str]:
        """What is not as promised; empty: all is."""
        found = [*self.failures]
        if not self.failures and not self.same:
            found.append(f"the results differ: {self.digest or 'none'} and, undisturbed, {self.digest_undisturbed}")
        away = [move for move in self.moved if move.stage == STAGE and move.origin == self.lost.site]
        if not away:
            found.append(f"{STAGE} did not leave {self.lost.site}, which was lost")
        elif not any(move.seq > 0 for move in away):
            found.append(f"{STAGE} began from zero after the loss of {self.lost.site}: it had no checkpoint")
        allowed = self.script.slices + self.script.checkpoint_every
        if self.computed > allowed:
            words = f"{self.computed} slices were computed for a volume of {self.script.slices}"
            found.append(f"{words}: more than one interval of {self.script.checkpoint_every} was done twice")
        if self.tried_again_undisturbed:
            found.append("the run to compare with was disturbed, too")
        found += [f"Globus did not carry {what}" for what, carried in self.needed.items() if not carried]
        doubled = sorted(name for name, count in self.submissions.items() if count > 1)
        if doubled:
            found.append(f"submitted more than once: {', '.join(doubled)}")
        return [*found, *(f"audit: {violation}" for violation in self.violations)]

    def view(self) -> dict[str, Any]:
        """For programs."""
        problems = self.problems
        return {
            "ok": not problems,
            "problems": problems,
            "run": self.run,
            "run_undisturbed": self.run_undisturbed,
            "lost": {"site": self.lost.site, "processes": self.lost.processes},
            "moved": [
                {"stage": m.stage, "from": m.origin, "to": m.target, "checkpoint_seq": m.seq} for m in self.moved
            ],
            "slices": {str(number): count for number, count in self.slices.items()},
            "slices_total": self.script.slices,
            "slices_undisturbed": self.slices_undisturbed,
            "checkpoint_every": self.script.checkpoint_every,
            "carried_over": self.carried_over,
            "seconds_per_slice": round(self.pace.per_slice, 4),
            "saved_seconds": round(self.saved_seconds, 3),
            "digest": self.digest,
            "digest_undisturbed": self.digest_undisturbed,
            "same": self.same,
            "picture": str(self.picture) if self.picture else None,
            "home": str(self.script.home) if self.script.keep else None,
            "connectors": dict(self.connectors),
            "submissions": dict(self.submissions),
            "transfers": [dict(transfer) for transfer in self.transfers],
            "carried_by_globus": dict(self.needed),
            "requests": dict(self.requests),
            "seconds": round(self.seconds, 3),
            "timeline": [{"seconds": round(m.seconds, 3), "who": m.who, "what": m.what} for m in self.timeline],
            "decisions": list(self.decisions),
        }
