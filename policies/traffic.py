"""Which way files take, which movements go together, and when a transfer is begun.

A way is a mover and the side that the files are taken from. Hard filters come first, each refusal a sentence; among
what is left the mover that needs nobody else's machine goes first, then the quickest. Movements that take the same way
are put on one transfer: a service that works at three transfers at a time is not given one for each stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from policies.model import Reason

Link = tuple[str, str, str]
"""Source, destination, mover."""

WINDOW = 500_000
"""µs that an ordinary movement waits for others to go with it."""
MOST_FILES = 20_000
"""Items of one transfer: what one request to the service may hold."""
ALONE_AFTER = 2
"""A movement that failed so often together with others goes alone."""
FEW = 16
"""Movements that go together after one of them failed: the bad one is found by halves, not by trying each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way that a movement could take."""

    mover: str
    source: str
    rank: int
    """Of its mover: lower goes first."""
    seconds: float = 0.0
    """Expected, from the links' past; the sum that is compared within a rank."""
    refusal: str = ""
    """Why not, as a sentence; empty: it could."""
    pause: str = ""
    """Why not just now: it is the way to take, and waited for."""
    rule: str = "route"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A movement that waits to be begun. Times in µs."""

    key: str
    destination: str
    ways: Sequence[Way]
    urgent: bool = False
    private: bool = False
    files: int = 1
    tries: int = 0
    asked_at: int = 0
    digests: frozenset[str] = frozenset()
    """Of all its files; empty: not all are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """A transfer that is not over."""

    mover: str
    destination: str
    urgent: bool = False
    digests: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Movements to put on one transfer."""

    mover: str
    source: str
    destination: str
    urgent: bool
    private: bool
    keys: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to begin, and what is said of the rest."""

    batches: Sequence[Batch] = ()
    direct: Mapping[str, Way] = field(default_factory=dict)
    """By movement: to be carried by the asker's own process."""
    waits: Mapping[str, Reason] = field(default_factory=dict)
    impossible: Mapping[str, Sequence[Reason]] = field(default_factory=dict)
    until: int | None = None
    """When the oldest one that waits for company has waited long enough."""


def best(ways: Sequence[Way]) -> Way | None:
    """The way to take; None: every one is refused."""
    open_ = [way for way in ways if not way.refusal]
    return min(open_, key=lambda way: (way.rank, way.seconds, way.source), default=None)


def refusals(ways: Sequence[Way]) -> Sequence[Reason]:
    """Each way that is closed, and why."""
    return [Reason(way.rule, "refused", way.refusal, way.source) for way in ways if way.refusal]


def plan(
    wanted: Sequence[Wanted],
    under_way: Sequence[UnderWay],
    *,
    slots: Mapping[str, int],
    now: int,
    window: int = WINDOW,
) -> Plan:
    """What is begun now. `wanted` in the order in which they are to be served; `slots`: by mover, how many transfers it
    may have under way (movers that are not named carry directly). One of them is kept for urgent work, where there
    are several."""
    batches: list[Batch] = []
    direct: dict[str, Way] = {}
    waits: dict[str, Reason] = {}
    impossible: dict[str, Sequence[Reason]] = {}
    leading: dict[str, set[str]] = {}
    for ahead in under_way:
        leading.setdefault(ahead.destination, set()).update(ahead.digests)
    groups: dict[tuple[bool, str, str, str, bool], list[Wanted]] = {}
    for one in wanted:
        way = best(one.ways)
        if way is None:
            impossible[one.key] = refusals(one.ways)
        elif way.pause:
            waits[one.key] = Reason("pause", "wait", way.pause)
        elif way.mover not in slots:
            direct[one.key] = way
        elif one.digests and way.source != one.destination and one.digests <= leading.get(one.destination, set()):
            # it is taken from its own side, once they have arrived
            waits[one.key] = Reason("same_files", "wait", f"the same files are on their way to {one.destination}")
        else:
            leading.setdefault(one.destination, set()).update(one.digests)
            route = (not one.urgent, way.mover, way.source, one.destination, one.private)
            groups.setdefault(route, []).append(one)
    free = _Free(slots, under_way)
    until: int | None = None
    for (ordinary, mover, source, destination, private), members in sorted(groups.items(), key=_first):
        ripe_at = min(one.asked_at for one in members) + (window if ordinary else 0)
        for load in _loads(members):
            if ripe_at > now:
                until = ripe_at if until is None else min(until, ripe_at)
                waits.update({one.key: Reason("window", "wait", "others may go with it") for one in load})
            elif not free.take(mover, urgent=not ordinary):
                fact = f"{mover} works at {slots[mover]} transfers at a time"
                waits.update({one.key: Reason("slots", "wait", fact) for one in load})
            else:
                keys = tuple(one.key for one in load)
                batches.append(
                    Batch(
                        mover=mover,
                        source=source,
                        destination=destination,
                        urgent=not ordinary,
                        private=private,
                        keys=keys,
                    )
                )
    return Plan(batches=batches, direct=direct, waits=waits, impossible=impossible, until=until)


def _first(group: tuple[tuple[bool, str, str, str, bool], list[Wanted]]) -> tuple[bool, int, str]:
    """Urgent links first, then the one whose oldest movement has waited longest."""
    route, members = group
    return route[0], min(one.asked_at for one in members), members[0].key


def _loads(members: Sequence[Wanted]) -> Sequence[Sequence[Wanted]]:
    """Cut to what one transfer may hold; what failed before goes in small company, and then alone."""
    loads: list[list[Wanted]] = []
    open_: dict[int, list[Wanted]] = {}
    for one in members:
        care = min(one.tries, ALONE_AFTER)
        most = len(members) if care == 0 else FEW if care < ALONE_AFTER else 1
        load = open_.get(care)
        if load is None or len(load) >= most or sum(held.files for held in load) + one.files > MOST_FILES:
            load = open_[care] = []
            loads.append(load)
        load.append(one)
    return loads


class _Free:
    """Places at the movers, as they are taken."""

    def __init__(self, slots: Mapping[str, int], under_way: Sequence[UnderWay]) -> None:
        self._slots = slots
        self._taken = {mover: sum(one.mover == mover for one in under_way) for mover in slots}
        self._ordinary = {mover: sum(one.mover == mover and not one.urgent for one in under_way) for mover in slots}

    def take(self, mover: str, *, urgent: bool) -> bool:
        most = self._slots[mover]
        if self._taken[mover] >= most or (not urgent and self._ordinary[mover] >= max(1, most - 1)):
            return False
        self._taken[mover] += 1
        self._ordinary[mover] += not urgent
        return True
