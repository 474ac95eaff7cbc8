"""NERSC's Superfacility API v1.2 over a rehearsal facility: the routes, who may use them, and the token endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from sandbox.faces.http import Request, Response, answer
from sandbox.faces.superfacility.clients import ApiClient, Doorkeeper
from sandbox.faces.superfacility.compute import Compute
from sandbox.faces.superfacility.forms import NOT_ALLOWED, NOT_FOUND, invalid
from sandbox.faces.superfacility.rows import Columns
from sandbox.faces.superfacility.status import StatusPages
from sandbox.faces.superfacility.tasks import Tasks
from sandbox.faces.superfacility.utilities import Utilities
from sandbox.facility import Facility

BASE = "/api/v1.2"
TOKEN = "/c2id/token"  # noqa: S105 - a path
MACHINES = ("perlmutter", "dtns", "dtn01")
ZONE = "America/Los_Angeles"
_NO_GLOBUS = "501 Not Implemented: this rehearsal facility has no Globus collections behind it"
_CHANGES = [{"date": "2026-01-01", "change": "rehearsal facility"}]


class SuperfacilityFace:
    """Both servers in one: the API below `/api/v1.2`, the tokens at `/c2id/token`."""

    def __init__(
        self,
        facility: Facility,
        clients: Sequence[ApiClient],
        *,
        accounts: Sequence[str] = ("m1234",),
        token_life: float = 600.0,
        task_seconds: float = 0.0,
        background: bool = False,
        audiences: Sequence[str] = (),
        zone: str = ZONE,
    ) -> None:
        """`accounts`: the user's projects. `token_life`, `task_seconds`: seconds of the facility's time that a token
        lives and that a task is new. `background`: commands run beside the calls that begin them, as they do at the
        real place; not under a virtual clock."""
        self.facility = facility
        self.doorkeeper = Doorkeeper(clients, now=facility.now, life=token_life, audiences=audiences)
        self._accounts = tuple(accounts)
        in_zone = ZoneInfo(zone)
        self._tasks = Tasks(facility, seconds=task_seconds, background=background)
        self._status = StatusPages(facility, zone=in_zone, machines=MACHINES)
        self._utilities = Utilities(facility, self._tasks)
        self._compute = Compute(facility, self._tasks, Columns(zone=in_zone, cluster=MACHINES[0]))

    def close(self) -> None:
        """Wait for commands that are at work."""
        self._tasks.close()

    def handle(self, request: Request) -> Response:
        if request.path == TOKEN:
            early = self.facility.faults.take("token_expiry", request)
            return self.doorkeeper.token(request, life=None if early is None else float(early.get("in", 60)))
        if not request.path.startswith(BASE + "/"):
            return NOT_FOUND
        path = request.path[len(BASE) + 1 :]
        words = [word for word in path.split("/") if word]
        if words[:1] == ["status"]:
            return self._status.handle(request, words[1:])
        if words[:1] == ["meta"]:
            return self._meta(request, words[1:])
        client = self.doorkeeper.client_of(request)
        if isinstance(client, Response):
            return client
        if client.colour != "red" and (request.method != "GET" or words[:1] == ["utilities"]):
            return answer({"detail": "Forbidden: this endpoint needs a client of another security level"}, 403)
        return self._known(request, path, words, client)

    def _known(self, request: Request, path: str, words: Sequence[str], client: ApiClient) -> Response:
        match list(words):
            case ["compute", "jobs", machine, *rest] if len(rest) <= 1:
                return (
                    self._compute.handle(request, "".join(rest), client) if machine in MACHINES else _machine(machine)
                )
            case ["utilities", verb, machine, *rest] if verb in {"command", "ls", "download", "upload"}:
                if machine not in MACHINES:
                    return _machine(machine)
                if bool(rest) == (verb == "command") and not (verb == "ls" and path.endswith("/")):
                    return NOT_FOUND
                return self._utilities.handle(request, verb, path.split("/", 3)[3] if rest else "", client)
            case ["tasks", *rest] if len(rest) <= 1:
                if request.method not in ({"GET", "DELETE"} if rest else {"GET"}):
                    return NOT_ALLOWED
                return self._tasks.handle(request, "".join(rest), client.client_id)
            case ["account", *rest]:
                return self._account(request, rest, client)
            case ["storage", "globus", "transfer", *rest] if len(rest) <= 1:
                return self._globus(request, rest)
        return NOT_FOUND

    # -- account -------------------------------------------------------------------------------------------

    def _account(self, request: Request, words: Sequence[str], client: ApiClient) -> Response:
        if request.method != "GET":
            return NOT_ALLOWED if words == ["groups"] else NOT_FOUND
        match list(words):
            case []:
                if request.first("username", client.user) != client.user:
                    return answer({"detail": "User not found"}, 404)
                return answer(
                    {
                        "uid": 1000,
                        "name": client.user,
                        "firstname": "Rehearsal",
                        "lastname": "User",
                        "middlename": "",
                        "workphone": "",
                        "otherPhones": "",
                        "email": f"{client.user}@example.org",
                    }
                )
            case ["projects"]:
                return answer([self._project(number, name) for number, name in enumerate(self._accounts, start=1)])
            case ["roles"]:
                return answer(
                    [
                        {"id": number, "description": f"project {name}", "repo_name": name, "iris_role": "user"}
                        for number, name in enumerate(self._accounts, start=1)
                    ]
                )
            case ["groups"]:
                return answer({"groups": []})
            case ["clients"]:
                mine = [one for one in self.doorkeeper.clients.values() if one.user == client.user]
                return answer([_client(one) for one in mine])
        return NOT_FOUND

    def _project(self, number: int, name: str) -> dict[str, object]:
        given, used = self.facility.use_of(name)
        hours: dict[str, object] = {}
        for kind in ("", "cpu_", "gpu_"):
            hours |= {f"{kind}hours_given": given, f"{kind}hours_used": used}
            scope = f"{kind}project_hours"
            hours |= {f"{scope}_given": given, f"{scope}_used": used}
        return {
            "id": number,
            "description": f"project {name}",
            "repo_name": name,
            "iris_role": "user",
            **hours,
            "projdir_usage": [],
            "project_projdir_usage": None,
            "hpss_usage": [],
        }

    # -- the rest ------------------------------------------------------------------------------------------

    def _meta(self, request: Request, words: Sequence[str]) -> Response:
        if request.method != "GET":
            return NOT_ALLOWED
        match list(words):
            case ["changelog"]:
                return answer(_CHANGES)
            case ["config"]:
                return answer([{"key": "compute.targets", "value": ",".join(MACHINES)}])
        return NOT_FOUND

    @staticmethod
    def _globus(request: Request, words: Sequence[str]) -> Response:
        """There is no Globus here, and that is what is said."""
        if request.method == "POST" and not words:
            return answer({"transfer_id": "", "status": "ERROR", "reason": _NO_GLOBUS})
        if request.method == "GET":
            return answer(
                {
                    "status": "ERROR",
                    "reason": _NO_GLOBUS,
                    "globus_status": "FAILED",
                    "bytes_transferred": 0,
                    "completion_time": None,
                    "effective_bytes_per_second": 0,
                }
            )
        return NOT_ALLOWED


def _machine(name: str) -> Response:
    known = ", ".join(f"'{machine}'" for machine in MACHINES)
    text = f"value is not a valid enumeration member; permitted: {known}"
    return invalid("machine", where="path", text=text if name else "field required", kind="type_error.enum")


def _client(client: ApiClient) -> dict[str, object]:
    ends = datetime.fromtimestamp(client.expires_at // 1_000_000, UTC)
    return {
        "name": client.name,
        "clientId": client.client_id,
        "expiresAt": ends.isoformat().replace("+00:00", "Z"),
        "comments": client.colour,
    }
