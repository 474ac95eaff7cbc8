"""ALCF's machine status feed, `activity.json`: public, one file per machine, written every few minutes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.errors import BadReply, SiteError
from connectors.http import Http
from connectors.model import Evidence
from connectors.registry import Clock
from connectors.slurm.jobs import moment

STALE = 15 * 60
"""Seconds after which what the feed says is no longer what the machine is like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What the feed says. Times are µs."""

    updated_at: int
    maintenance: bool
    until: int | None
    running: int
    queued: Mapping[str, int]
    """Waiting jobs by queue."""


class ActivityFeed:
    """Reads it."""

    def __init__(self, http: Http, *, site: str, clock: Clock) -> None:
        self._http, self._site, self._clock = http, site, clock

    def read(self) -> Activity:
        """Raises SiteError."""
        told = self._http.get("").mapping()
        updated = _moment(told.get("updated"))
        if updated is None:
            raise BadReply(f"{self._site}: the activity feed does not say of when it is", site=self._site)
        return Activity(
            updated_at=updated,
            maintenance=told.get("maint") is True,
            until=_moment(told.get("end")) if told.get("maint") is True else None,
            running=len(_jobs(told.get("running"))),
            queued=Counter(str(job.get("queue", ""))[:60] for job in _jobs(told.get("queued"))),
        )

    def probe(self) -> Sequence[Evidence]:
        """The machine's state; nothing of it where the feed is silent or old: that says nothing of the machine."""
        begun = self._clock()
        try:
            found = self.read()
        except SiteError as error:
            return [self._evidence("status", ok=False, detail=f"activity feed: {error}").published()]
        latency = (self._clock() - begun) / 1e6
        age = (self._clock() - found.updated_at) / 1e6
        if age > STALE:
            old = f"the activity feed is {age / 60:.0f} minutes old"
            return [self._evidence("status", ok=False, detail=old).published()]
        if found.maintenance:
            now = self._evidence("compute", ok=False, detail="in maintenance", until=found.until, latency=latency)
            return [now.published("maintenance")]
        depths = ", ".join(f"{queue} {count}" for queue, count in sorted(found.queued.items())[:8])
        waiting = f"{sum(found.queued.values())} waiting{f' ({depths})' if depths else ''}"
        detail = f"{found.running} jobs running, {waiting}"
        return [self._evidence("compute", ok=True, detail=detail, latency=latency).published()]

    def _evidence(
        self, capability: str, *, ok: bool, detail: str, until: int | None = None, latency: float = 0.0
    ) -> Evidence:
        return Evidence(
            site=self._site,
            capability=capability,
            ok=ok,
            at=self._clock(),
            latency=latency,
            detail=detail,
            until=until,
        )


def _jobs(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _moment(value: object) -> int | None:
    if isinstance(value, float) and 0 < value < 1e11:
        return round(value * 1e6)
    return moment(value)
