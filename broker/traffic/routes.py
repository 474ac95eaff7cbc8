"""The ways that a movement could take: which mover could carry it from which side, and what speaks against each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from broker.traffic.rows import MovementRow, MoverRow, ReplicaRow
from connectors.base import Able, ClosableMover, Crossing, Scheduled
from connectors.model import Origin, Transfer, TransferItem
from policies.links import PRIOR, Learned
from policies.traffic import Link, Way

DOWN_PROBES, DOWN_SECONDS = 3, 30.0
"""Both must be spent before a mover that gives no answer is gone around."""
FOR_EVER: Mapping[str, float] = {}
SURE = 0.9
"""Of a purge horizon: clocks differ, and a purge may begin early."""
DARK_PENALTY = 3_600.0
"""Seconds added to a way from a side that gives no answer: its files may be within reach all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What ways are judged by at one moment."""

    now: int
    links: Mapping[Link, Learned]
    movers: Mapping[str, MoverRow]
    dark: frozenset[str] = frozenset()
    """Sides that do not answer."""


class Routes:
    """The movers there are, best first: one that copies on the spot, one whose service carries by itself, one that has
    all of it pass through this machine."""

    def __init__(self, movers: Mapping[str, ClosableMover]) -> None:
        self.movers = movers
        self._ranks = {name: rank for rank, name in enumerate(movers)}
        self.slots = {name: mover.slots for name, mover in movers.items() if isinstance(mover, Scheduled)}
        """Of the movers whose transfers live in a service of their own: how many are under way at a time."""
        self.direct = frozenset(movers) - self.slots.keys()
        """Those that carry within the process that asks them."""
        self.crossing = frozenset(
            name for name in self.direct if isinstance(mover := movers[name], Crossing) and mover.crosses_network
        )
        """Those of them that cross a network: what they carry has rows from the first."""
        self.rows = bool(self.slots or self.crossing)
        """Does anything here leave rows?"""

    def ways(self, transfer: Transfer, origins: Sequence[Origin], at: Conditions | None = None) -> Sequence[Way]:
        """All of them. Without conditions only what never changes speaks against one."""
        return [self._way(name, transfer, origin, at) for origin in origins for name in self.movers]

    def _way(self, name: str, transfer: Transfer, origin: Origin, at: Conditions | None) -> Way:
        mover, asked = self.movers[name], taken_from(transfer, origin)
        refusal = mover.refuses(asked) if isinstance(mover, Able) else ""
        way = Way(mover=name, source=origin.site, rank=self._ranks[name], refusal=refusal)
        if at is None or refusal:
            return way
        silent, down = silence(at.movers.get(name), at.now)
        if down:
            return replace(way, refusal=silent, rule="mover_down")
        if silent:
            return replace(way, pause=silent)
        if origin.site == transfer.destination_site:
            return way  # it crosses no link, whatever the other ones have learned
        seconds = self._seconds(asked, at.links.get((origin.site, transfer.destination_site, name), PRIOR))
        return replace(way, seconds=seconds + (DARK_PENALTY if origin.site in at.dark else 0.0))

    @staticmethod
    def _seconds(transfer: Transfer, link: Learned) -> float:
        sizes = [item.size for item in transfer.items]
        return link.estimate(bytes=sum(size or 0 for size in sizes), files=len(sizes)).p50


def taken_from(transfer: Transfer, origin: Origin) -> Transfer:
    """The same files, taken from there."""
    return replace(transfer, source_site=origin.site, items=origin.items, others=())


def silence(row: MoverRow | None, now: int) -> tuple[str, bool]:
    """Why nothing is begun with a mover now, and has it been silent for so long that it is gone around; empty: it
    answers."""
    if row is None or row.cannot_ask_since is None:
        return "", False
    seconds = (now - row.cannot_ask_since) / 1e6
    if row.help:
        return f"{row.name}: {row.detail}", True
    return f"{row.name} gives no answer: {row.detail}", row.probes >= DOWN_PROBES and seconds >= DOWN_SECONDS


def failed_before(ways: Iterable[Way], row: MovementRow, now: int) -> Sequence[Way]:
    """The ways with those closed that this movement has tried in vain."""
    tried = {
        (mover, side): str(why) for mover, side, why, until in json.loads(row.refused) if until is None or until > now
    }
    return [
        replace(way, refusal=f"it failed: {tried[way.mover, way.source]}", rule="failed_before")
        if not way.refusal and (way.mover, way.source) in tried
        else way
        for way in ways
    ]


def by_catalogue(
    origins: Sequence[Origin],
    known: Mapping[str, Sequence[ReplicaRow]],
    *,
    now: int = 0,
    horizons: Mapping[str, float] = FOR_EVER,
) -> Sequence[Origin]:
    """Where else all of these files are known to lie, by their digests: sides beyond those that were named. What was
    verified so long ago that its site may have purged it counts as gone. `horizons`: seconds, by side."""
    items = origins[0].items
    if not known or any(item.sha256 is None or item.source.endswith("/") for item in items):
        return ()
    at: list[dict[str, str]] = [
        {c.side: c.path for c in known.get(str(item.sha256), ()) if c.state == "available" and _kept(c, now, horizons)}
        for item in items
    ]
    named = {origin.site for origin in origins}
    sides = set.intersection(*map(set, at)) - named if at else set()
    return [
        Origin(site=side, items=tuple(_from(item, copies[side]) for item, copies in zip(items, at, strict=True)))
        for side in sorted(sides)
    ]


def _kept(copy: ReplicaRow, now: int, horizons: Mapping[str, float]) -> bool:
    """Is it surely younger than what its side keeps?"""
    longest = horizons.get(copy.side, 0.0)
    return not longest or (copy.verified_at is not None and now - copy.verified_at < SURE * longest * 1e6)


def _from(item: TransferItem, path: str) -> TransferItem:
    return replace(item, source=path)


def spoiled(origin: Origin, known: Mapping[str, Sequence[ReplicaRow]]) -> str:
    """Why an origin's copy is not to be used where there is another one; empty: nothing is known against it."""
    if not known:
        return ""
    for item in origin.items:
        for copy in known.get(item.sha256 or "", ()):
            if (copy.side, copy.path) == (origin.site, item.source) and copy.state in ("suspect", "bad", "lost"):
                return f"its copy of {item.source} is {copy.state}: {copy.reason}"
    return ""
