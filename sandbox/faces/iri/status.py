"""How the facility is: `/status/resources`, `/status/incidents`, `/status/events`. Public."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.faces.http import Request, Response, answer
from sandbox.faces.iri.links import Links, iso, micros
from sandbox.faces.iri.problems import Problem, known_parameters, whole
from sandbox.faces.iri.profiles import IriProfile, IriResource
from sandbox.facility import Facility, Outage

SITE = "c0ffee00-0000-4000-8000-0000000000aa"
CAPABILITY = "c0ffee00-0000-4000-8000-0000000000cc"
_PAGE = ("offset", "limit", "name", "description", "modified_since")
_RESOURCES = (*_PAGE, "group", "resource_type", "current_status", "capability")
_INCIDENTS = (*_PAGE, "status", "type", "resolution", "from", "to", "time", "resource_id")
_EVENTS = (*_PAGE, "incident_id", "resource_id", "status", "from", "to", "time")


class StatusPages:
    """The routes."""

    def __init__(self, facility: Facility, profile: IriProfile) -> None:
        self._facility, self._profile = facility, profile
        self._since = facility.now()

    def handle(self, request: Request, words: Sequence[str], links: Links) -> Response:
        if request.method == "GET" and len(words) in {3, 4} and (words[0], words[2]) == ("incidents", "events"):
            return self._of_incident(request, words[1], words[3:], links)
        if request.method != "GET" or not words or len(words) > 2:
            raise Problem(404, "Not Found")
        kind, found = words[0], {"resources": _RESOURCES, "incidents": _INCIDENTS, "events": _EVENTS}.get(words[0])
        if found is None:
            raise Problem(404, "Not Found")
        known_parameters(request, found if len(words) == 1 else ())
        things = getattr(self, f"_{kind}")(request, links)
        if len(words) == 2:
            thing = next((thing for thing in things if thing["id"] == words[1]), None)
            if thing is None:
                raise Problem(404, f"{kind[:-1].capitalize()} {words[1][:80]} not found")
            return answer(thing)
        return self._page(request, kind, [thing for thing in things if _fits(thing, request)])

    def _of_incident(self, request: Request, incident: str, event: Sequence[str], links: Links) -> Response:
        """`/status/incidents/{id}/events[/{id}]`: an older way to ask, which clients of v1 still know."""
        known_parameters(request, () if event else _EVENTS)
        if incident not in {one["id"] for one in self._incidents(request, links)}:
            raise Problem(404, f"Incident {incident[:80]} not found")
        own = links.to(f"status/incidents/{incident}")
        things = [thing for thing in self._events(request, links) if thing["incident_uri"] == own]
        if not event:
            return self._page(request, "events", [thing for thing in things if _fits(thing, request)])
        found = next((thing for thing in things if thing["id"] == event[0]), None)
        if found is None:
            raise Problem(404, f"Event {event[0][:80]} not found")
        return answer(found)

    def _page(self, request: Request, kind: str, things: Sequence[Any]) -> Response:
        offset, limit = whole(request, "offset", 0), whole(request, "limit", 100, most=1000)
        if not things and kind != "resources":
            raise Problem(404, f"No {kind} found")  # so it is answered out there
        return answer(list(things[offset : offset + limit]))

    # -- resources ---------------------------------------------------------------------------------------------

    def _resources(self, request: Request, links: Links) -> list[dict[str, Any]]:
        return [self.resource(item, request, links) for item in self._profile.resources]

    def resource(self, item: IriResource, request: Request, links: Links) -> dict[str, Any]:
        """One resource's record."""
        v2 = self._profile.version == "v2"
        kind = item.kind if not v2 else f"urn:doe-iri:resource:{item.kind}"
        more = {"supported_endpoints": ["compute" if item.kind == "compute" else "filesystem"]} if v2 else {}
        return links.thing(
            f"status/resources/{item.id}",
            id=item.id,
            name=item.name,
            description=f"{item.name}, a rehearsal",
            last_modified=iso(self._since),
            group=self._facility.name,
            current_status=self._status(item, request),
            resource_type=kind,
            site_uri=links.to(f"facility/sites/{SITE}"),
            capability_uris=[links.to(f"account/capabilities/{CAPABILITY}")],
            **more,
        )

    def _status(self, item: IriResource, request: Request) -> str:
        fault = self._facility.faults.take("status_word", request)
        if fault is not None and fault.get("resource", item.name) == item.name:
            return str(fault.get("word", "degraded"))
        now = self._facility.now()
        for outage in self._facility.outages():
            if outage.resource in {item.name, item.part} and _holds(outage, now):
                word = "degraded" if outage.degraded else "down"
                return word if word in self._profile.status_words else "up"
        if not self._facility.up(item.part):
            return "down"
        if item.kind == "compute" and "degraded" not in self._profile.status_words and not self._busy():
            return "unknown"  # a machine that runs nothing tells nothing there
        return "up"

    def _busy(self) -> bool:
        return self._facility.up("status") and bool(self._facility.jobs(ended_too=False))

    # -- incidents and events ------------------------------------------------------------------------------------

    def _incidents(self, request: Request, links: Links) -> list[dict[str, Any]]:  # noqa: ARG002
        return [self._incident(outage, links) for outage in self._facility.outages()]

    def _incident(self, outage: Outage, links: Links) -> dict[str, Any]:
        now, name = self._facility.now(), _id_of(outage)
        over = outage.end is not None and outage.end <= now
        return links.thing(
            f"status/incidents/{name}",
            id=name,
            name=outage.description or f"{outage.resource} outage",
            description=outage.description,
            last_modified=iso(min(now, outage.start)),
            status="degraded" if outage.degraded else "down",
            start=iso(outage.start),
            end=None if outage.end is None else iso(outage.end),
            type="planned" if outage.planned else "unplanned",
            resolution="completed" if over else ("pending" if outage.start > now else "unresolved"),
            event_uris=[links.to(f"status/events/{event}") for event, _, _ in self._moments(outage)],
            resource_uris=[links.to(f"status/resources/{item.id}") for item in self._touched(outage)],
        )

    def _touched(self, outage: Outage) -> list[IriResource]:
        return [item for item in self._profile.resources if outage.resource in {item.name, item.part}]

    def _moments(self, outage: Outage) -> list[tuple[str, int, str]]:
        """Its events so far: id, when, and the status from then on."""
        now, name = self._facility.now(), _id_of(outage)
        found = [(f"{name}-begin", outage.start, "degraded" if outage.degraded else "down")]
        if outage.end is not None:
            found.append((f"{name}-end", outage.end, "up"))
        return [moment for moment in found if moment[1] <= now]

    def _events(self, request: Request, links: Links) -> list[dict[str, Any]]:  # noqa: ARG002
        return [
            links.thing(
                f"status/events/{event}",
                id=event,
                name=outage.description or "outage",
                description=outage.description,
                last_modified=iso(at),
                occurred_at=iso(at),
                status=word,
                resource_uri=links.to(f"status/resources/{self._touched(outage)[0].id}"),
                incident_uri=links.to(f"status/incidents/{_id_of(outage)}"),
            )
            for outage in self._facility.outages()
            for event, at, word in self._moments(outage)
            if self._touched(outage)
        ]


def _holds(outage: Outage, now: int) -> bool:
    return outage.start <= now and (outage.end is None or now < outage.end)


def _id_of(outage: Outage) -> str:
    return hashlib.sha256(f"{outage.resource} {outage.start}".encode()).hexdigest()[:32]


def _fits(thing: Mapping[str, Any], request: Request) -> bool:
    """Does it pass the query's filters?"""
    for name, value in request.query:
        if name in {"name", "description", "group"} and value.lower() not in str(thing.get(name) or "").lower():
            return False
        if name in {"status", "type", "resolution", "current_status"} and thing.get(name) != value:
            return False
        if name == "resource_type" and thing.get(name) not in {value, f"urn:doe-iri:resource:{value}"}:
            return False
        if name == "resource_id" and not any(uri.endswith(f"/{value}") for uri in _uris(thing)):
            return False
        if name == "incident_id" and not str(thing.get("incident_uri")).endswith(f"/{value}"):
            return False
        if name in {"from", "to", "time", "modified_since"} and not _in_time(thing, name, value):
            return False
    return True


def _uris(thing: Mapping[str, Any]) -> list[str]:
    return [*thing.get("resource_uris", []), str(thing.get("resource_uri", ""))]


def _in_time(thing: Mapping[str, Any], name: str, value: str) -> bool:
    at = micros(value)
    if at is None:
        raise Problem(422, f"{name} is no time", invalid=[(name, "not an ISO 8601 time")])
    start = micros(str(thing.get("start") or thing.get("occurred_at") or thing["last_modified"])) or 0
    end = micros(str(thing["end"])) if thing.get("end") else None
    match name:
        case "modified_since":
            return (micros(str(thing["last_modified"])) or 0) >= at
        case "from":
            return end is None or end >= at
        case "to":
            return start <= at
        case _:
            return start <= at and (end is None or at <= end)
