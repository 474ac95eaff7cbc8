"""What can go wrong at a simulated site, as values.

Two sources, mixed freely in a `FaultPlan`: *timed* faults happen when the clock says so; *odds* are drawn from
the site's own seeded generator, per call or per execution, so that one seed always tells the same story.
Times are integer microseconds UTC (`end=None`: never ends), durations are seconds, odds lie between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from connectors.errors import Fault as Blame

CAPABILITIES = ("submit", "status", "files", "transfer", "credentials")
"""What a front end offers to the outside. The jobs themselves are the sixth capability, `compute`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Something that holds from `start` (included) to `end` (not included)."""

    start: int
    end: int | None = None

    def holds(self, now: int) -> bool:
        return self.start <= now and (self.end is None or now < self.end)


# -- faults that last ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition(Window):
    """The front end gives no answer; queue, jobs and disks go on behind it."""

    capabilities: Sequence[str] = CAPABILITIES


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeDown(Window):
    """The nodes fail: running jobs die at `start`, none begins before `end`."""

    requeue: bool = False
    """True: jobs that allow it go back to the queue; otherwise they end NODE_FAILED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance(ComputeDown):
    """A planned `ComputeDown`: no job begins whose time limit reaches into it, and the site says so before."""

    announced_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DisksGone(Window):
    """Files can be neither read nor written; what jobs write meanwhile is lost."""

    wiped: bool = False
    """True: the disks come back empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLost(Window):
    """Gone for good: front end, jobs and disks. `end` is ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow(Window):
    """Jobs that start in this window take `factor` times as long, and so does every answer."""

    factor: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusing(Window):
    """Submissions are refused, certainly without effect. `blame` is a value of `connectors.errors.Fault`."""

    reason: str = "invalid account"
    blame: str = Blame.SITE.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy(Window):
    """Submissions are told to come back later."""

    retry_after: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialExpired(Window):
    """Every call is answered with «who are you?»."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncompleteListing(Window):
    """Listings leave out a share of the jobs, and say that they are not complete."""

    hidden: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckQueue(Window):
    """Jobs submitted in this window are accepted and never start."""

    reason: str = "PartitionTimeLimit"


# -- faults of one moment (`end` is ignored) ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Preemption(Window):
    """Some running jobs must make room."""

    count: int = 1
    notice: float = 0.0
    """Seconds between the warning and the kill."""
    requeue: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFailure(Window):
    """Some running jobs die with their node."""

    count: int = 1
    requeue: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerCrash(Window):
    """The scheduler loses its last seconds of memory, as Slurm's was seen to do after a `kill -9`.

    Jobs accepted within `memory` seconds before `start` are forgotten and their ids are given out again; jobs
    started within them are started a second time, under the same id and with no restart counted. From `start`
    to `end` the front end is silent.
    """

    memory: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountingPurged(Window):
    """The site forgets all jobs that have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Odds:
    """Chances, drawn from the site's seeded generator. All zero: nothing is drawn."""

    unreachable: float = 0.0
    """Per call: no answer, nothing happened."""
    request_lost: float = 0.0
    """Per job submitted: no clear answer, and the site never saw it."""
    reply_lost: float = 0.0
    """Per job submitted: no clear answer, though the site has accepted."""
    refused: float = 0.0
    """Per job submitted."""
    doubled: float = 0.0
    """Per job submitted: the site takes it twice, and answers with the second id."""
    forgotten: float = 0.0
    """Per job accepted: the site does not know it any more at once."""
    id_reused: float = 0.0
    """Per job accepted: it gets the id of a job that has ended."""
    stuck: float = 0.0
    """Per job accepted: it never starts."""
    run_twice: float = 0.0
    """Per start: the same job is started on a second node as well."""
    preempted: float = 0.0
    """Per execution: preempted at a random moment, requeued where the job allows it."""
    node_failed: float = 0.0
    """Per execution: killed with its node at a random moment."""
    liar: float = 0.0
    """Per success: one of `lies` is told."""
    lies: Sequence[str] = ("outputs missing", "outputs truncated", "no exit record")
    listing_incomplete: float = 0.0
    """Per listing."""

    def __post_init__(self) -> None:
        for name in _CHANCES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"odds of {name} must lie between 0 and 1")


_CHANCES = tuple(item.name for item in fields(Odds) if item.name != "lies")
LIES = frozenset({"outputs missing", "outputs truncated", "no exit record"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOdds:
    """Chances of a simulated mover, drawn per transfer."""

    stalled: float = 0.0
    """It stays ACTIVE until it is canceled."""
    corrupt: float = 0.0
    """One file arrives damaged; the digest tells, and nothing is published."""
    source_vanished: float = 0.0
    """One file is gone when its turn comes."""
    reply_lost: float = 0.0
    """The transfer begins, but its submission gets no clear answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """All that will, or may, go wrong at one site."""

    timed: Sequence[Window] = ()
    odds: Odds = field(default_factory=Odds)


class FaultKind(Enum):
    """The names under which a site document's `faults:` asks for timed faults."""

    partition = Partition
    compute_down = ComputeDown
    maintenance = Maintenance
    disks_gone = DisksGone
    site_lost = SiteLost
    slow = Slow
    refusing = Refusing
    busy = Busy
    credential_expired = CredentialExpired
    incomplete_listing = IncompleteListing
    stuck_queue = StuckQueue
    preemption = Preemption
    node_failure = NodeFailure
    controller_crash = ControllerCrash
    accounting_purged = AccountingPurged


_INSTANTS = ("start", "end", "announced_at")


def parse_fault(document: Mapping[str, object], origin: int) -> Window:
    """A timed fault from `{kind: partition, start: 60, end: 600, ...}`; times are seconds after `origin`.

    Raises ValueError with the names there are.
    """
    words: dict[str, Any] = dict(document)
    kind = str(words.pop("kind", ""))
    if kind not in FaultKind.__members__:
        raise ValueError(f"no fault of kind {kind!r}; there are: {', '.join(FaultKind.__members__)}")
    made: type[Window] = FaultKind[kind].value
    known = [item.name for item in fields(made)]
    for name in words:
        if name not in known:
            raise ValueError(f"fault {kind}: no word {name!r}; there are: {', '.join(known)}")
    if "start" not in words:
        raise ValueError(f"fault {kind}: say when it starts, in seconds: start: 60")
    for name in _INSTANTS:
        at = words.get(name)
        if at is not None:
            words[name] = origin + round(_number(kind, name, at) * 1_000_000)
    return made(**words)


def parse_odds(document: Mapping[str, object]) -> Odds:
    """Odds from `{reply_lost: 0.1, ...}`. Raises ValueError with the names there are."""
    for name in document:
        if name not in _CHANCES:
            raise ValueError(f"no odds of {name!r}; there are: {', '.join(_CHANCES)}")
    chances: dict[str, Any] = {name: _number("odds", name, value) for name, value in document.items()}
    return Odds(**chances)


def _number(kind: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{kind}: {name} must be a number, not {value!r}")
    return float(value)
