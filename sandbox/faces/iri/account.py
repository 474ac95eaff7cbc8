"""Who the facility is, and what the user may use: `/facility`, `/account`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sandbox.faces.http import Request, Response, answer
from sandbox.faces.iri.links import Links, iso
from sandbox.faces.iri.problems import Problem, known_parameters
from sandbox.faces.iri.profiles import IriProfile
from sandbox.faces.iri.status import CAPABILITY, SITE
from sandbox.facility import Facility

_SITES = ("modified_since", "name", "offset", "limit", "short_name")
_CAPABILITIES = ("name", "modified_since", "offset", "limit")


class AccountPages:
    """The routes."""

    def __init__(self, facility: Facility, profile: IriProfile, accounts: Sequence[str]) -> None:
        self._facility, self._profile, self._accounts = facility, profile, tuple(accounts)
        self._since = facility.now()

    def facility(self, request: Request, words: Sequence[str], links: Links) -> Response:
        """Public."""
        match request.method, *words:
            case ("GET",):
                known_parameters(request, ("modified_since",))
                return answer(self._itself(links))
            case "GET", "sites":
                known_parameters(request, _SITES)
                return answer([self._site(links)])
            case "GET", "sites", site if site == SITE:
                known_parameters(request, ("modified_since",))
                return answer(self._site(links))
            case _:
                raise Problem(404, "Not Found")

    def capabilities(self, request: Request, words: Sequence[str], links: Links) -> Response:
        """Public."""
        known_parameters(request, _CAPABILITIES if not words else ("modified_since",))
        found = [self._capability(links)]
        if not words:
            return answer(found)
        if list(words) != [CAPABILITY]:
            raise Problem(404, "Capability not found")
        return answer(found[0])

    def account(self, request: Request, words: Sequence[str], user: str, links: Links) -> Response:
        """The user's own."""
        known_parameters(request, ())
        match request.method, *words:
            case "GET", "whoami" if self._profile.version == "v2":
                return answer({"attributes": {}, "username": user})
            case "GET", "projects":
                return answer([self._project(name, user, links) for name in self._accounts])
            case "GET", "projects", name, *rest if name in self._accounts:
                return self._below(name, rest, user, links)
            case _:
                raise Problem(404, "Project not found")

    def _below(self, name: str, rest: Sequence[str], user: str, links: Links) -> Response:
        allocation = f"{name}-compute"
        match list(rest):
            case []:
                return answer(self._project(name, user, links))
            case ["project_allocations"]:
                return answer([self._allocation(name, links)])
            case ["project_allocations", found] if found == allocation:
                return answer(self._allocation(name, links))
            case ["project_allocations", found, "user_allocations"] if found == allocation:
                return answer([self._share(name, user, links)])
            case ["project_allocations", found, "user_allocations", mine] if (found, mine) == (
                allocation,
                f"{allocation}-{user}",
            ):
                return answer(self._share(name, user, links))
            case _:
                raise Problem(404, "Allocation not found")

    # -- records -------------------------------------------------------------------------------------------------

    def _itself(self, links: Links) -> dict[str, Any]:
        return links.thing(
            "facility",
            id=f"{self._facility.name}-facility",
            name=f"{self._facility.name}, a rehearsal",
            description="A rehearsal facility: nothing here is real",
            last_modified=iso(self._since),
            short_name=self._facility.name,
            organization_name="rehearsal",
            support_uri=links.to("facility"),
            site_uris=[links.to(f"facility/sites/{SITE}")],
        )

    def _site(self, links: Links) -> dict[str, Any]:
        return links.thing(
            f"facility/sites/{SITE}",
            id=SITE,
            name=f"{self._facility.name} rehearsal site",
            description="This machine",
            last_modified=iso(self._since),
            short_name=self._facility.name,
            operating_organization="rehearsal",
            resource_uris=[links.to(f"status/resources/{item.id}") for item in self._profile.resources],
        )

    def _capability(self, links: Links) -> dict[str, Any]:
        return links.thing(
            f"account/capabilities/{CAPABILITY}",
            id=CAPABILITY,
            name="compute",
            description="node hours",
            last_modified=iso(self._since),
            units=[self._unit()],
        )

    def _unit(self) -> str:
        return "node_hours" if self._profile.version == "v1" else "urn:doe-iri:allocation:compute:node-hours"

    def _project(self, name: str, user: str, links: Links) -> dict[str, Any]:
        members = {
            "id": name,
            "name": name,
            "description": f"project {name}",
            "user_ids": [user],
            "last_modified": iso(self._since),
        }
        return links.thing(f"account/projects/{name}", **members)

    def _entries(self, name: str) -> list[dict[str, Any]]:
        granted, used = self._facility.use_of(name)
        return [{"allocation": granted, "usage": used, "unit": self._unit()}]

    def _allocation(self, name: str, links: Links) -> dict[str, Any]:
        return {
            "id": f"{name}-compute",
            "entries": self._entries(name),
            "project_uri": links.to(f"account/projects/{name}"),
            "capability_uri": links.to(f"account/capabilities/{CAPABILITY}"),
        }

    def _share(self, name: str, user: str, links: Links) -> dict[str, Any]:
        return {
            "id": f"{name}-compute-{user}",
            "user_id": user,
            "entries": self._entries(name),
            "project_allocation_uri": links.to(f"account/projects/{name}/project_allocations/{name}-compute"),
        }
