"""The simulated site and the simulated mover against the contracts that all connectors and movers share, in this
process and behind the socket of one that hosts them."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.clock import VirtualClock
from connectors.base import Site
from connectors.contract import MoverContract, SiteContract
from connectors.model import JobSpec, SmallFile
from connectors.registry import SiteConfig, make_site
from sandbox.blob import blob_of
from sandbox.connector import SimulatedSite
from sandbox.faults import Partition
from sandbox.host import WorldHost
from sandbox.mover import SimulatedMover
from sandbox.shape import SiteShape
from sandbox.shared import SharedMover, SharedSite
from sandbox.site import SiteModel
from sandbox.world import SimulatedWorld


def wait_until(clock: VirtualClock, predicate: Callable[[], bool], within: float) -> None:
    for _ in range(200):
        if predicate():
            return
        clock.advance(within / 200)
    assert predicate(), f"did not come true within {within} s"


class SimulatedRig:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.model = SiteModel(name="sim", shape=SiteShape(slots=20), rng=random.Random(1), start=self.clock())

    def connect(self) -> SimulatedSite:
        return SimulatedSite(self.model, self.clock)

    def job(self, key: str, *, seconds: float = 0.0, exit_code: int = 0, digest: str = "d1") -> JobSpec:
        payload = f"echo begun\n: sim seconds={seconds} exit={exit_code}\n"
        return JobSpec(
            key=key,
            digest=digest,
            directory=f"runs/{key}",
            entry=".crossfade/stage.sh",
            files=(SmallFile(path=".crossfade/payload.sh", content=payload.encode()),),
        )

    def executions(self, key: str) -> int:
        return self.model.journal.runs()[key]

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        wait_until(self.clock, predicate, within)

    def darken(self) -> None:
        self.model.inject(Partition(start=self.clock(), end=self.clock() + 1_000_000))

    def brighten(self) -> None:
        self.clock.advance(1)

    def lose_next_reply(self, site: Site) -> bool:
        self.model.ordain("reply_lost")
        return True


class TestSimulatedSite(SiteContract):
    @pytest.fixture
    def rig(self) -> SimulatedRig:
        return SimulatedRig()


class MemoryMoverRig:
    source = "here"
    destination = "there"

    def __init__(self, clock: VirtualClock, world: SimulatedWorld) -> None:
        self.clock = clock
        self.world = world
        for name in (self.source, self.destination):
            model = SiteModel(name=name, shape=SiteShape(), rng=random.Random(1), start=clock())
            world.add(SimulatedSite(model, clock))

    def connect(self) -> SimulatedMover:
        return SimulatedMover(self.world, self.clock, latency=2.0, bandwidth=1e7)

    def put(self, site: str, path: str, content: bytes) -> None:
        self.world.site(site).write(path, content)

    def get(self, site: str, path: str) -> bytes | None:
        return self.world.site(site).read_many([path], limit=1 << 30).get(path)

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        wait_until(self.clock, predicate, within)

    def darken(self, site: str) -> None:
        self.world.site(site).model.inject(Partition(start=self.clock()))


class TestSimulatedMoverBetweenSites(MoverContract):
    @pytest.fixture
    def rig(self) -> MemoryMoverRig:
        return MemoryMoverRig(VirtualClock(), SimulatedWorld())


class FolderMoverRig(MemoryMoverRig):
    """From a simulated site into a real folder, as into the broker's own store."""

    def __init__(self, clock: VirtualClock, world: SimulatedWorld, folder: Path) -> None:
        super().__init__(clock, world)
        self.root = folder / "store"
        self.root.mkdir()
        world.add_folder(self.destination, self.root)

    def put(self, site: str, path: str, content: bytes) -> None:
        self.world.place(site).put(path, blob_of(content, self.clock()), self.clock())

    def get(self, site: str, path: str) -> bytes | None:
        found = self.world.place(site).get(path)
        return None if found is None else found.whole()

    def darken(self, site: str) -> None:
        if site == self.destination:
            self.root.rename(self.root.with_name("away"))
        else:
            super().darken(site)


class TestSimulatedMoverIntoAFolder(MoverContract):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> FolderMoverRig:
        return FolderMoverRig(VirtualClock(), SimulatedWorld(), tmp_path)


@pytest.fixture
def host() -> Iterator[WorldHost]:
    with (
        tempfile.TemporaryDirectory(prefix="cf-") as short,  # as a socket's path must be
        WorldHost(Path(short) / "world", clock=VirtualClock()) as host,
    ):
        yield host


def shared(host: WorldHost, name: str = "sim") -> SiteConfig:
    return SiteConfig(name=name, connector="simulated", slots=20, options={"world": str(host.path)})


class SharedRig(SimulatedRig):
    """The same site, and another way to it."""

    def __init__(self, host: WorldHost, config: SiteConfig) -> None:
        self.clock, self.model, self._config = host.clock, host.site(config).model, config
        self._made: list[SharedSite] = []

    def connect(self) -> SharedSite:
        self._made.append(SharedSite(self._config, self.clock))
        return self._made[-1]

    def close(self) -> None:
        for site in self._made:
            site.close()


class TestSharedSite(SiteContract):
    @pytest.fixture
    def rig(self, host: WorldHost) -> Iterator[SharedRig]:
        rig = SharedRig(host, shared(host))
        yield rig
        rig.close()


class SharedMoverRig(MemoryMoverRig):
    def __init__(self, host: WorldHost, tmp_path: Path) -> None:
        self.clock, self.world, self._blobs = host.clock, host.world, tmp_path / "blobs"
        self._sites = [SharedSite(shared(host, name), self.clock) for name in (self.source, self.destination)]
        self._made: list[SharedMover] = []
        self.connect().status([])  # with the first call the sites come to be

    def connect(self) -> SharedMover:
        self._made.append(SharedMover(self._sites, self._blobs))
        return self._made[-1]

    def close(self) -> None:
        for mover in self._made:
            mover.close()


class TestSharedMover(MoverContract):
    @pytest.fixture
    def rig(self, host: WorldHost, tmp_path: Path) -> Iterator[SharedMoverRig]:
        rig = SharedMoverRig(host, tmp_path)
        yield rig
        rig.close()


def test_the_registry_makes_a_simulated_site() -> None:
    clock = VirtualClock()
    site = make_site(SiteConfig(name="sim", connector="simulated", slots=3), clock)
    assert isinstance(site, Site)
    assert isinstance(site, SimulatedSite)
    assert site.model.shape.slots == 3
