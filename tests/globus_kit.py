"""The Globus stand-in for tests: in this process under a virtual clock, or on a socket under real time."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx

from broker.clock import VirtualClock, micros, wall_clock
from connectors.registry import Clock
from sandbox.faces.globus import GlobusFace
from sandbox.globus import Client, Collection, GlobusAuth, GlobusService, Limits, Pace, Worker, weather_of
from sandbox.globus.scopes import TRANSFER_ALL
from sandbox.globus.task import Task
from sandbox.script import FaultScript, script_of
from sandbox.serving import FaceServer, InProcess

CLIENT = Client(id=str(uuid.UUID(int=0xC11E)), secret="a-secret-of-tests")
NATIVE = Client(id=str(uuid.UUID(int=0x9A71)))
HOUR = 3_600
DAY = 24 * HOUR


def id_of(name: str) -> str:
    """The same for a name in every test."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.collections.example.org"))


class Globus:
    """The service, its login and its collections `a` and `b` (or of other names), each a folder below `folder`."""

    def __init__(
        self,
        folder: Path,
        *rules: Mapping[str, Any],
        names: Sequence[str] = ("a", "b"),
        clock: Clock | None = None,
        pace: Pace | None = None,
        limits: Limits | None = None,
        need_data_access: bool = False,
        inline: bool = True,
        life: float = 3e8,
        auth_clock: Clock | None = None,
    ) -> None:
        """`life`: seconds of a token; virtual years may pass."""
        self.clock: Any = clock or VirtualClock()
        self.script: FaultScript = script_of(*rules, clock=self.clock)
        self.collections = {
            name: Collection(id=id_of(name), display_name=name, folder=folder / name, need_data_access=need_data_access)
            for name in names
        }
        for one in self.collections.values():
            one.folder.mkdir(parents=True, exist_ok=True)
        self.service = GlobusService(
            list(self.collections.values()),
            clock=self.clock,
            pace=pace,
            limits=limits,
            faults=self.script.of("globus"),
            weather=weather_of(self.script),
            inline=inline,
        )
        self.auth = GlobusAuth(
            [CLIENT, NATIVE], clock=auth_clock or self.clock, knows=self.service.knows_scope, life=life
        )
        self.face = GlobusFace(self.service, self.auth)

    # -- files -----------------------------------------------------------------------------------------------

    def put(self, name: str, path: str, content: bytes = b"some words\n") -> Path:
        """A file on a collection."""
        made = self.collections[name].folder / path
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(content)
        return made

    def read(self, name: str, path: str) -> bytes:
        return (self.collections[name].folder / path).read_bytes()

    def names(self, name: str) -> list[str]:
        """All files and links of a collection, temporary ones too."""
        folder = self.collections[name].folder
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())

    # -- time ------------------------------------------------------------------------------------------------

    def go_on(self, seconds: float) -> None:
        """Virtual time passes."""
        self.clock.advance_to(self.clock() + micros(seconds))
        self.service.look()

    def run_out(self) -> None:
        """Until nothing will happen any more."""
        while (at := self.service.next_event_at()) is not None:
            self.clock.advance_to(max(at, self.clock()))
            self.service.look()

    # -- requests, in this process -----------------------------------------------------------------------------

    @contextmanager
    def client(self, *, scope: str = TRANSFER_ALL) -> Iterator[httpx.Client]:
        """Speaks HTTP to it, with a token for that scope."""
        transport = InProcess(self.face, self.script.of("globus"), name="globus", sleep=self.go_on)
        token = self.auth.by_credentials(CLIENT, scope).tokens[0].value
        headers = {"authorization": f"Bearer {token}"}
        with httpx.Client(transport=transport, base_url="http://globus.test", headers=headers) as made:
            yield made

    def order(self, *pairs: tuple[str, str], submission: str = "", label: str = "", **more: Any) -> dict[str, Any]:
        """A transfer from `a` to `b` as clients write it."""
        first, second = list(self.collections)[:2]
        return {
            "DATA_TYPE": "transfer",
            "submission_id": submission or str(uuid.uuid4()),
            "source_endpoint": id_of(first),
            "destination_endpoint": id_of(second),
            "label": label,
            "DATA": [
                {"DATA_TYPE": "transfer_item", "source_path": source, "destination_path": target}
                for source, target in pairs
            ],
            **more,
        }

    def submit(self, client: httpx.Client, *pairs: tuple[str, str], **more: Any) -> str:
        """Its task id."""
        reply = client.post("/v0.10/transfer", json=self.order(*pairs, **more))
        assert reply.status_code == 202, reply.text
        return str(reply.json()["task_id"])

    def task(self, task_id: str) -> Task:
        found = self.service.task(task_id, owner=CLIENT.id)
        assert found is not None
        return found


@contextmanager
def on_a_socket(
    folder: Path, *rules: Mapping[str, Any], virtual: bool = False, **more: Any
) -> Iterator[tuple[Globus, FaceServer]]:
    """Behind a server. Under real time a thread works; `virtual`: time passes by `go_on` alone, and who asks finds
    done what is due. Tokens live by real time in both: their clients look at it."""
    if virtual:
        made = Globus(folder, *rules, auth_clock=wall_clock, **more)
    else:
        made = Globus(folder, *rules, clock=wall_clock, inline=False, **more)
    server = FaceServer(made.face, made.script.of("globus"), name="globus")
    with nullcontext() if virtual else Worker(made.service), server:
        yield made, server


def variables(server: FaceServer) -> dict[str, str]:
    """What makes globus-sdk and globus-cli speak to it."""
    return {
        "GLOBUS_SDK_SERVICE_URL_TRANSFER": server.address,
        "GLOBUS_SDK_SERVICE_URL_AUTH": server.address,
    }


def told(client: Any, task_id: str) -> dict[str, Any]:
    """What the service tells of a task."""
    reply = client.get(f"/v0.10/task/{task_id}")
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def codes(globus: Globus, task_id: str) -> list[str]:
    """What has happened to a task, in order."""
    return [event.code for event in globus.task(task_id).events]
