"""The Globus mover over the stand-in: the real SDK over a socket, under a clock that the tests move."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from globus_kit import CLIENT, Globus, id_of

from broker.clock import wall_clock
from connectors.base import Notes
from connectors.errors import SiteUnreachable
from connectors.files.collection import CollectionFiles
from connectors.globus.errand import Step, no_step
from connectors.globus.mover import GlobusMover
from connectors.globus.task import Options
from connectors.globus_api.api import GlobusApi
from connectors.globus_api.ends import End
from connectors.globus_api.pace import Pace as CallPace
from connectors.model import Transfer, TransferItem, TransferState, TransferStatus
from connectors.notes import MemoryNotes
from connectors.registry import GlobusConfig, PlaceConfig, SiteConfig
from sandbox.faces.http import Request
from sandbox.globus import Collection, Pace, Worker
from sandbox.serving import FaceServer

CONTENT = b"0123456789" * 1000
PAIR = ("from/a", "to/a")
PATIENCE = 300.0
A_ROOT, B_ROOT = "data/a", "work/b"
"""Where the sites' roots lie on their collections."""


class Killed(BaseException):
    """The process dies here: nothing catches it."""


class Rig:
    """Two sites `a` and `b` and a place `store:`, each on a collection; movers between them."""

    source, destination = "a", "b"
    options = Options(patience=PATIENCE)

    def __init__(self, globus: Globus, server: FaceServer, secrets: Path) -> None:
        self.globus, self.server = globus, server
        self.notes: Notes = MemoryNotes()
        self.calls: Counter[str] = Counter()
        """What was asked of Transfer, by method and path without ids."""
        server.on_request = self._count
        secrets.mkdir(exist_ok=True, mode=0o700)
        for name, text in (("id", CLIENT.id), ("secret", CLIENT.secret)):
            path = secrets / name
            path.write_text(text)
            path.chmod(0o600)
        self.config = GlobusConfig(
            client_id=f"file:{secrets / 'id'}",
            client_secret=f"file:{secrets / 'secret'}",
            transfer_url=server.address,
            auth_url=f"{server.address}/",
            tokens=secrets / "tokens",
        )
        self.configs = {
            name: SiteConfig(
                name=name,
                connector="x",
                root=f"/lustre/{root}",
                collection=id_of(name),
                collection_base="/lustre",
                globus=self.config,
            )
            for name, root in (("a", A_ROOT), ("b", B_ROOT))
        }
        self.places = {
            "store": PlaceConfig(name="store", collection=id_of("store"), path="/shelf"),
            "web": PlaceConfig(name="web", url="https://example.org"),
        }
        for name, root in (("a", A_ROOT), ("b", B_ROOT), ("store", "shelf")):
            (globus.collections[name].folder / root).mkdir(parents=True, exist_ok=True)
        self.movers: list[GlobusMover] = []

    def _count(self, request: Request, status: int) -> None:
        words = [word for word in request.path.split("/") if word]
        kept = [word if len(word) < 30 else "ID" for word in words]
        self.calls[f"{request.method} {'/'.join(kept[1:])}"] += 1

    # -- the kit's rig ---------------------------------------------------------------------------------------

    def connect(
        self, *, step: Step = no_step, options: Options | None = None, config: GlobusConfig | None = None
    ) -> GlobusMover:
        api = GlobusApi(config or self.config, pace=CallPace(rate=1e6, burst=10**6))

        def digests(end: End, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
            return CollectionFiles(api, end).digests(paths)

        made = GlobusMover(
            api,
            configs=self.configs,
            places=self.places,
            notes=self.notes,
            clock=self.globus.clock,
            options=options or self.options,
            digests=digests,
            step=step,
        )
        self.movers.append(made)
        return made

    def put(self, site: str, path: str, content: bytes) -> None:
        self.globus.put(self._name(site), f"{self._root(site)}/{path}", content)

    def get(self, site: str, path: str) -> bytes | None:
        try:
            return self.globus.read(self._name(site), f"{self._root(site)}/{path}")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, OSError):
            return None

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        """Time passes in steps of some seconds, so that what must be waited for is."""
        end = time.monotonic() + within
        while not predicate():
            assert time.monotonic() < end, "in vain"
            self.globus.go_on(20)

    def darken(self, site: str) -> None:
        self.collection(site).down = "CONNECT_FAILED"

    # -- more ------------------------------------------------------------------------------------------------

    def collection(self, site: str) -> Collection:
        return self.globus.collections[self._name(site)]

    def transfer(self, *pairs: tuple[str, str], key: str = "k1", **more: Any) -> Transfer:
        items = [TransferItem(source=source, destination=target) for source, target in pairs]
        made = Transfer(key=key, source_site="a", destination_site="b", items=tuple(items), label="run/stage")
        return replace(made, **more)

    def settled(self, mover: GlobusMover, transfer: Transfer, *, submit: bool = True) -> TransferStatus:
        """Ask for it and wait for its end."""
        if submit:
            mover.submit([transfer])
        self.wait_until(lambda: self.state(mover, transfer.key) is not TransferState.ACTIVE, within=30)
        return mover.status([transfer.key])[transfer.key]

    def state(self, mover: GlobusMover, key: str) -> TransferState:
        return mover.status([key])[key].state

    @property
    def transfers(self) -> int:
        """How many tasks Globus has made to move files."""
        return int(self.globus.service.counted["transfers"])

    def left_over(self, site: str = "b") -> list[str]:
        """What is in folders for what is not verified."""
        self.globus.run_out()
        name = self._name(site)
        return [path for path in self.globus.names(name) if "incoming" in path]

    @staticmethod
    def _name(site: str) -> str:
        return site.rstrip(":")

    @staticmethod
    def _root(site: str) -> str:
        return {"a": A_ROOT, "b": B_ROOT, "store:": "shelf"}[site]


@contextmanager
def a_rig(folder: Path, *rules: Mapping[str, Any], **more: Any) -> Iterator[Rig]:
    """Whoever asks brings the service up to date: no thread works, and time stands still between two steps."""
    globus = Globus(folder / "globus", *rules, names=("a", "b", "store"), **{"need_data_access": True, **more})
    server = FaceServer(globus.face, globus.script.of("globus"), name="globus")
    with server:
        rig = Rig(globus, server, folder / "secrets")
        try:
            yield rig
        finally:
            for mover in rig.movers:
                mover.close()


class LivingRig(Rig):
    """Under real time."""

    options = Options(patience=1.0)

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        end = time.monotonic() + within
        while not predicate():
            assert time.monotonic() < end, "in vain"
            time.sleep(0.05)


@contextmanager
def a_living_rig(folder: Path) -> Iterator[Rig]:
    """A thread works at tasks, under real time."""
    pace = Pace(first_rest=0.1, longest_rest=0.5)
    globus = Globus(
        folder / "globus",
        names=("a", "b", "store"),
        clock=wall_clock,
        inline=False,
        pace=pace,
        need_data_access=True,
    )
    server = FaceServer(globus.face, globus.script.of("globus"), name="globus")
    with Worker(globus.service), server:
        rig = LivingRig(globus, server, folder / "secrets")
        try:
            yield rig
        finally:
            for mover in rig.movers:
                mover.close()


def steps_of(run: Callable[[Step], object]) -> list[str]:
    """The names of the steps that leave a trace, in their order."""
    seen: list[str] = []
    run(seen.append)
    return seen


def die_at(number: int) -> Step:
    """The process dies after so many steps."""
    seen = iter(range(number, -1, -1))

    def step(name: str) -> None:
        if next(seen, 0) == 0:
            raise Killed(name)

    return step


__all__ = [
    "A_ROOT",
    "B_ROOT",
    "PATIENCE",
    "Killed",
    "Rig",
    "SiteUnreachable",
    "a_living_rig",
    "a_rig",
    "die_at",
    "steps_of",
]


def moved(rig: Rig, *pairs: tuple[str, str], **more: Any) -> TransferStatus:
    """How a transfer of these files (or of one) from `a` to `b` ends."""
    for source, _ in pairs or (PAIR,):
        if not source.endswith("/"):
            rig.put("a", source, CONTENT)
    return rig.settled(rig.connect(), rig.transfer(*(pairs or (PAIR,)), **more))
