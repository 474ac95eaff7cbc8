"""The relay mover against the contract that all movers share, between sites that it sees through their files alone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from broker.clock import VirtualClock
from connectors.base import Site
from connectors.contract import MoverContract
from connectors.errors import NotThere
from connectors.files.folder import FolderFiles
from connectors.files.root import Root
from connectors.relay import RelayMover
from sandbox.connector import SimulatedSite
from sandbox.faults import Partition
from sandbox.shape import SiteShape
from sandbox.site import SiteModel


class RelayRig:
    source = "east"
    destination = "west"
    clock: Callable[[], int]
    sites: Mapping[str, Site | FolderFiles]

    def __init__(self) -> None:
        self.movers: list[RelayMover] = []

    def connect(self) -> RelayMover:
        mover = RelayMover(self.sites, self.sites, self.clock)
        self.movers.append(mover)
        return mover

    def put(self, site: str, path: str, content: bytes) -> None:
        self.sites[site].write(path, content)

    def get(self, site: str, path: str) -> bytes | None:
        try:
            return self.sites[site].read(path, limit=1 << 30)
        except NotThere:
            return None

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        """Really: the mover's threads work whatever the sites' clock says."""
        deadline = time.monotonic() + within
        while not predicate():
            assert time.monotonic() < deadline, f"did not come true within {within} s"
            time.sleep(0.002)

    def close(self) -> None:
        for mover in self.movers:
            mover.close()


class FoldersRig(RelayRig):
    """Two folders, through the port SiteFiles."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.clock = lambda: time.time_ns() // 1000
        self.roots = {name: Root(site=name, path=folder / name) for name in (self.source, self.destination)}
        for root in self.roots.values():
            root.prepare()
        self.sites = {name: FolderFiles(root) for name, root in self.roots.items()}

    def darken(self, site: str) -> None:
        path = self.roots[site].path
        path.rename(path.with_suffix(".away"))


class SimulatedRig(RelayRig):
    """Two simulated sites, which are nowhere on this machine's disk."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.models = {
            name: SiteModel(name=name, shape=SiteShape(), rng=random.Random(1), start=self.clock())
            for name in (self.source, self.destination)
        }
        self.sites = {name: SimulatedSite(model, self.clock) for name, model in self.models.items()}

    def darken(self, site: str) -> None:
        self.models[site].inject(Partition(start=self.clock()))


class TestRelayBetweenFolders(MoverContract):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[FoldersRig]:
        rig = FoldersRig(tmp_path)
        yield rig
        rig.close()


class TestRelayBetweenSitesElsewhere(MoverContract):
    @pytest.fixture
    def rig(self) -> Iterator[SimulatedRig]:
        rig = SimulatedRig()
        yield rig
        rig.close()
