"""Which movers serve which sites, and which of them takes what."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from broker.clock import wall_clock
from broker.store.sql import SqlStore
from broker.traffic import Desk
from connectors.base import Site
from connectors.local import make as make_local
from connectors.model import Transfer, TransferItem, TransferState
from connectors.notes import MemoryNotes
from connectors.registry import MoverSetup, SiteConfig, make_movers
from sandbox.connector import make as make_simulated


class Place:
    """Two sites of this machine, one elsewhere, and the broker's own store."""

    def __init__(self, folder: Path) -> None:
        self.blobs = folder / "blobs"
        self.store = SqlStore("sqlite://", clock=wall_clock)
        (self.blobs / "ab").mkdir(parents=True)
        (self.blobs / "ab" / "abc").write_bytes(b"a file of the document")
        self.configs = {n: SiteConfig(name=n, connector="local", root=str(folder / n)) for n in ("one", "two")}
        self.configs["far"] = SiteConfig(name="far", connector="simulated")
        one, two = (make_local(self.configs[n], wall_clock) for n in ("one", "two"))
        one.prepare()
        two.prepare()
        self.sites: dict[str, Site] = {
            "one": one,
            "two": two,
            "far": make_simulated(self.configs["far"], wall_clock),
        }

    def mover(self, *names: str) -> Desk:
        sites = {name: self.sites[name] for name in names}
        configs = {name: self.configs[name] for name in names}
        setup = MoverSetup(sites=sites, configs=configs, blobs=self.blobs, clock=wall_clock, notes=MemoryNotes())
        return Desk(make_movers(setup), self.store, wall_clock)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def mover(place: Place) -> Iterator[Desk]:
    with closing(place.mover("one", "two", "far")) as mover:
        yield mover


def carried(mover: Desk, source: str, destination: str, path: str) -> TransferState:
    item = TransferItem(source=path, destination="to/a")
    key = f"{source}-{destination}"
    mover.submit([Transfer(key=key, source_site=source, destination_site=destination, items=(item,))])
    deadline = time.monotonic() + 30
    while (status := mover.status([key])[key]).state is TransferState.ACTIVE:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return status.state


def test_sites_of_this_machine_are_served_by_copying(place: Place) -> None:
    with closing(place.mover("one", "two")) as mover:
        assert list(mover.routes.movers) == ["copy"]


def test_simulated_sites_are_served_by_their_own_mover(place: Place) -> None:
    with closing(place.mover("far")) as mover:
        assert list(mover.routes.movers) == ["simulated"]


def test_where_one_site_is_elsewhere_what_concerns_it_is_relayed(place: Place, mover: Desk) -> None:
    assert list(mover.routes.movers) == ["copy", "relay"]
    place.sites["one"].write("from/a", b"hello")
    assert carried(mover, "one", "far", "from/a") is TransferState.SUCCEEDED
    assert place.sites["far"].read("to/a") == b"hello"
    assert place.sites["far"].list("relay")
    assert carried(mover, "far", "two", "to/a") is TransferState.SUCCEEDED
    assert place.sites["two"].read("to/a") == b"hello"


def test_between_sites_of_this_machine_it_is_copied_still(place: Place, mover: Desk) -> None:
    place.sites["one"].write("from/a", b"hello")
    assert carried(mover, "one", "two", "from/a") is TransferState.SUCCEEDED
    assert place.sites["two"].read("incoming/one-two.done")


@pytest.mark.parametrize("site", ["one", "far"])
def test_a_documents_files_reach_every_site(place: Place, mover: Desk, site: str) -> None:
    assert carried(mover, "", site, "ab/abc") is TransferState.SUCCEEDED
    assert place.sites[site].read("to/a") == b"a file of the document"


def test_a_missing_file_of_the_document_fails_its_transfer(mover: Desk) -> None:
    assert carried(mover, "", "far", "ab/absent") is TransferState.FAILED


def test_cancel_and_status_reach_both_movers(mover: Desk) -> None:
    assert mover.cancel(["nobody"]) == {"nobody": True}
    assert mover.status(["nobody"])["nobody"].state is TransferState.UNKNOWN


def test_a_site_limits_what_goes_through_this_machine(place: Place) -> None:
    place.configs["far"] = replace(place.configs["far"], relay_file=10)
    with closing(place.mover("one", "far")) as mover:
        assert carried(mover, "", "far", "ab/abc") is TransferState.FAILED
        assert "needs Globus" in mover.status(["-far"])["-far"].reason
