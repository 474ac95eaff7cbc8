"""Status, notes and outages: what everybody may read. Told from the facility's outages, and from whether it works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sandbox.faces.http import Request, Response, answer
from sandbox.facility import Facility, Outage

_SYSTEMS = {
    "perlmutter": ("Perlmutter", "compute"),
    "dtns": ("Data Transfer Nodes", "service"),
    "global_homes": ("Global Homes", "filesystem"),
    "global_common": ("Global Common", "filesystem"),
    "community_filesystem": ("Community File System (CFS)", "filesystem"),
    "archive": ("HPSS Archive", "storage"),
    "globus": ("Globus", "service"),
    "iris": ("Iris", "service"),
    "network": ("Network", "service"),
    "spin": ("Spin", "service"),
}
_PARTS = {
    "compute": ("perlmutter",),
    "submit": ("perlmutter",),
    "status": ("perlmutter",),
    "files": ("global_homes", "global_common", "community_filesystem"),
    "transfer": ("globus", "dtns"),
}
"""Which systems suffer when a part of the facility does."""


class StatusPages:
    """The routes below `/status`. Faults: `status_word` (a system's `word` and `text`; `resource`: which), `stale_feed`
    (told as of some seconds ago)."""

    def __init__(self, facility: Facility, *, zone: ZoneInfo, machines: Sequence[str]) -> None:
        self._facility = facility
        self._zone = zone
        self._systems = {**_SYSTEMS, **{name: (name, "compute") for name in machines if name not in _SYSTEMS}}

    def handle(self, request: Request, words: Sequence[str]) -> Response:
        """`words`: the path's parts behind `/status`."""
        if request.method != "GET":
            return answer({"detail": "Method Not Allowed"}, 405)
        match list(words):
            case []:
                return answer(self._spoiled(request, [self._status(name) for name in self._systems]))
            case ["notes"]:
                return answer([self._notes(name) for name in self._systems])
            case ["notes", name] if name in self._systems:
                return answer(self._notes(name))
            case ["outages"]:
                return answer([self._outages(name) for name in self._systems])
            case ["outages", "planned"]:
                return answer([self._outages(name, planned=True) for name in self._systems])
            case ["outages", "planned", name] if name in self._systems:
                return answer(self._outages(name, planned=True))
            case ["outages", name] if name in self._systems:
                return answer(self._outages(name))
            case [name] if name in self._systems:
                return answer(self._spoiled(request, [self._status(name)])[0])
        return answer({"detail": "Resource not found"}, 404)

    def _spoiled(self, request: Request, pages: Sequence[dict[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """As the fault script wants it; asked once for an answer."""
        stale = self._facility.faults.take("stale_feed", request)
        wrong = self._facility.faults.take("status_word", request) or {}
        word = str(wrong.get("word", "unavailable"))
        for page in pages:
            if stale is not None:
                page["updated_at"] = self._time(self._facility.now() - round(float(stale.get("age", 3600)) * 1e6))
            if wrong and str(wrong.get("resource", "perlmutter")) == page["name"]:
                page |= {"status": word, "description": str(wrong.get("text", f"System is {word}"))}
        return pages

    def _status(self, name: str) -> dict[str, Any]:
        full, kind = self._systems[name]
        now = self._facility.now()
        active = [one for one in self._of(name) if one.start <= now and (one.end is None or now < one.end)]
        if any(not one.degraded for one in active) or (not active and not self._works(name)):
            word = "unavailable"
        else:
            word = "degraded" if active else "active"
        text = next((one.description for one in active if one.description), "")
        return {
            "name": name,
            "full_name": full,
            "description": text or {"active": "System is active"}.get(word, f"System is {word}"),
            "system_type": kind,
            "notes": [one["notes"] for one in self._notes(name) if one["active"]],
            "status": word,
            "updated_at": self._time(now),
        }

    def _works(self, name: str) -> bool:
        return all(self._facility.up(part) for part in ("submit", "compute", "files") if name in _PARTS[part])

    def _notes(self, name: str) -> list[Mapping[str, Any]]:
        now = self._facility.now()
        return [
            {
                "name": name,
                "notes": one.description or "outage",
                "active": one.start <= now and (one.end is None or now < one.end),
                "timestamp": self._time(one.start),
            }
            for one in self._of(name)
            if one.start <= now
        ]

    def _outages(self, name: str, *, planned: bool = False) -> list[Mapping[str, Any]]:
        now = self._facility.now()
        found = [self._outage(name, one, now) for one in self._of(name)]
        return [one for one in found if one["status"] == "Planned"] if planned else found

    def _outage(self, name: str, one: Outage, now: int) -> Mapping[str, Any]:
        status = "Active" if one.start <= now else "Planned"
        if one.end is not None and one.end <= now:
            status = "Completed"
        return {
            "name": name,
            "start_at": self._time(one.start),
            "end_at": None if one.end is None else self._time(one.end),
            "description": one.description or ("Scheduled Maintenance" if one.planned else "Unplanned outage"),
            "notes": None,
            "status": status,
            "swo": "degr" if one.degraded else "unavail",
            "update_at": None,
        }

    def _of(self, name: str) -> Sequence[Outage]:
        return [
            one
            for one in self._facility.outages()
            if one.resource == name
            or name in _PARTS.get(one.resource, ())
            or (one.resource in {self._facility.name, ""} and self._systems[name][1] in {"compute", "filesystem"})
        ]

    def _time(self, at: int) -> str:
        return datetime.fromtimestamp(at // 1_000_000, self._zone).isoformat()
