"""The DOE IRI Facility API, v1 or v2, over a rehearsal facility."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectors.errors import SiteUnreachable
from sandbox.faces.http import Request, Response, answer
from sandbox.faces.iri.account import AccountPages
from sandbox.faces.iri.compute import Compute
from sandbox.faces.iri.filesystem import Filesystem
from sandbox.faces.iri.links import Links
from sandbox.faces.iri.problems import Problem, known_parameters
from sandbox.faces.iri.profiles import REFERENCE, IriProfile
from sandbox.faces.iri.status import StatusPages
from sandbox.faces.iri.tasks import Tasks
from sandbox.facility import Facility


class IriFace:
    """All routes below `/api/v1` or `/api/v2`."""

    def __init__(
        self,
        facility: Facility,
        profile: IriProfile = REFERENCE,
        *,
        tokens: Mapping[str, str],
        accounts: Sequence[str] = ("projA",),
    ) -> None:
        """`tokens`: bearer tokens that are accepted, and whose they are. `accounts`: the user's projects."""
        self.facility, self.profile = facility, profile
        self._tokens = dict(tokens)
        self._tasks = Tasks(facility, seconds=profile.task_seconds)
        self._compute = Compute(facility, profile)
        self._filesystem = Filesystem(facility, profile, self._tasks)
        self._status = StatusPages(facility, profile)
        self._account = AccountPages(facility, profile, accounts)

    @property
    def base(self) -> str:
        """The path below which it answers."""
        return f"/api/{self.profile.version}"

    def handle(self, request: Request) -> Response:
        try:
            if not request.path.startswith(self.base + "/"):
                raise Problem(404, "Not Found")
            words = [word for word in request.path[len(self.base) + 1 :].split("/") if word]
            return self._routed(request, words, Links(request, self.profile.version))
        except Problem as problem:
            return problem.response(request)
        except SiteUnreachable as error:
            return Problem(503, str(error)).response(request)

    def _routed(self, request: Request, words: Sequence[str], links: Links) -> Response:
        match list(words):
            case ["facility", *rest]:
                return self._account.facility(request, rest, links)
            case ["status", *rest]:
                return self._status.handle(request, rest, links)
            case ["account", "capabilities", *rest]:
                return self._account.capabilities(request, rest, links)
            case ["account", *rest]:
                return self._account.account(request, rest, self._user(request), links)
            case ["compute" | "filesystem" as kind, "resources"] if self.profile.version == "v2":
                return self._usable(request, "compute" if kind == "compute" else "storage", links)
            case ["compute", *rest]:
                return self._compute.handle(request, rest, self._user(request))
            case ["filesystem", *rest]:
                return self._filesystem.handle(request, rest, self._user(request), links)
            case ["task", *rest]:
                return self._tasks.handle(request, rest, self._user(request))
            case ["storage", "locations" | "access-endpoints" as kind, resource] if self.profile.version == "v2":
                self._user(request)
                return self._storage(request, kind, resource)
            case _:
                raise Problem(404, "Not Found")

    def _usable(self, request: Request, kind: str, links: Links) -> Response:
        known_parameters(request, ())
        found = [item for item in self.profile.resources if item.kind == kind]
        return answer([self._status.resource(item, request, links) for item in found])

    def _storage(self, request: Request, kind: str, resource: str) -> Response:
        known = (
            ("logicalpath", "project", "allocation", "intent") if kind == "locations" else ("protocol", "endpoint_id")
        )
        known_parameters(request, known)
        if resource not in {item.id for item in self.profile.resources if item.kind == "storage"}:
            raise Problem(404, "Resource not found")
        if kind == "access-endpoints":
            return answer([])
        place = {
            "logical_name": request.first("logicalpath") or "scratch",
            "path": self.facility.files.root,
            "filesystem": "rehearsal",
            "shared": False,
            "access": {"read": True, "write": True, "execute": True},
        }
        return answer([place])

    def _user(self, request: Request) -> str:
        user = self._tokens.get(request.bearer) if request.bearer else None
        if user is None:
            raise Problem(401, "Invalid or missing token", headers={"www_authenticate": "Bearer"})
        return user
