"""Which mover the desk takes for data that the relay is too small for, and what happens where there is no rsync."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cloud_kit import VirtualCloud
from command_kit import SshServer
from rsync_kit import server

from broker.clock import wall_clock
from broker.store.sql import SqlStore
from broker.traffic import Desk
from connectors.base import Site
from connectors.command import make as make_command
from connectors.local import make as make_local
from connectors.model import Refused, Transfer, TransferItem, TransferState, TransferStatus
from connectors.notes import MemoryNotes
from connectors.registry import MoverSetup, SiteConfig, make_movers

BIG = 40 << 20


@pytest.fixture(scope="module")
def ssh() -> Iterator[SshServer]:
    with server() as started:
        yield started


class Lab:
    """This machine, and what is elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = folder / "blobs"
        self.blobs.mkdir()
        self.store = SqlStore("sqlite://", clock=wall_clock)
        self.configs = {"desk": SiteConfig(name="desk", connector="local", root=str(folder / "desk"))}
        desk = make_local(self.configs["desk"], wall_clock)
        desk.prepare()
        self.sites: dict[str, Site] = {"desk": desk}

    def behind_ssh(self, server: SshServer, **options: object) -> None:
        given = {"host": "there", "ssh_config": str(server.config), "control": tempfile.mkdtemp(dir=server.folder)}
        self.configs["far"] = SiteConfig(
            name="far", connector="command", root=str(self.folder / "far"), options={**given, **options}
        )
        far = make_command(self.configs["far"], wall_clock)
        far.prepare()
        self.sites["far"] = far

    def in_a_bucket(self) -> VirtualCloud:
        cloud = VirtualCloud(self.folder / "cloud")
        self.configs["cloud"] = SiteConfig(name="cloud", connector="kubernetes", root="s3://lab/")
        self.sites["cloud"] = cloud.connect()
        return cloud

    def desk(self) -> Desk:
        setup = MoverSetup(
            sites=self.sites, configs=self.configs, blobs=self.blobs, clock=wall_clock, notes=MemoryNotes()
        )
        return Desk(make_movers(setup), self.store, wall_clock)

    def put(self, path: str, content: bytes) -> None:
        at = self.folder / "desk" / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(content)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    for site in made.sites.values():
        if hasattr(site, "close"):
            site.close()
    made.store.close()


def transfer(source: str, destination: str, path: str, size: int | None = None) -> Transfer:
    items = (TransferItem(source=path, destination="to/a", size=size),)
    return Transfer(key=f"cf{source}{destination}", source_site=source, destination_site=destination, items=items)


def settled(desk: Desk, wanted: Transfer) -> TransferStatus:
    deadline = time.monotonic() + 60
    while (status := desk.status([wanted.key])[wanted.key]).state is TransferState.ACTIVE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return status


def test_between_here_and_a_site_behind_ssh_rsync_carries_and_the_relay_is_last(lab: Lab, ssh: SshServer) -> None:
    lab.behind_ssh(ssh)
    lab.put("from/a", b"x" * BIG)
    with closing(lab.desk()) as desk:
        assert list(desk.routes.movers) == ["copy", "rsync", "relay"]
        there = transfer("desk", "far", "from/a", BIG)
        desk.submit([there])
        arrived = settled(desk, there)
        assert arrived.state is TransferState.SUCCEEDED
        back = transfer("far", "desk", "to/a", BIG)
        desk.submit([back])
        assert settled(desk, back).state is TransferState.SUCCEEDED
    assert (lab.folder / "far" / "incoming" / f"{arrived.native_id}.done").exists()
    assert not (lab.folder / "far" / "relay").exists()
    assert (lab.folder / "desk" / "to" / "a").read_bytes() == b"x" * BIG


def test_a_document_s_files_reach_a_site_behind_ssh(lab: Lab, ssh: SshServer) -> None:
    lab.behind_ssh(ssh)
    (lab.blobs / "abc").write_bytes(b"a file of the document")
    with closing(lab.desk()) as desk:
        wanted = transfer("", "far", "abc")
        desk.submit([wanted])
        assert settled(desk, wanted).state is TransferState.SUCCEEDED
    assert (lab.folder / "far" / "to" / "a").read_bytes() == b"a file of the document"


def test_where_there_is_no_rsync_the_relay_takes_over_what_it_can(lab: Lab, ssh: SshServer) -> None:
    lab.behind_ssh(ssh, rsync="/opt/nothing/rsync")
    lab.put("from/a", b"small")
    with closing(lab.desk()) as desk:
        wanted = transfer("desk", "far", "from/a")
        desk.submit([wanted])
        status = settled(desk, wanted)
        assert (status.state, status.fault) == (TransferState.FAILED, "site"), "so it is asked for again"
        assert "no rsync at far" in status.reason
        desk.submit([wanted])
        assert settled(desk, wanted).state is TransferState.SUCCEEDED
        large = transfer("desk", "far", "from/a", BIG)
        answer = desk.submit([large])[large.key]
        assert isinstance(answer, Refused)
        assert "no rsync at far" in answer.reason
        assert "too large to pass through this machine" in answer.reason
    assert (lab.folder / "far" / "to" / "a").read_bytes() == b"small"
    assert (lab.folder / "far" / "relay").exists()


def test_between_here_and_a_bucket_what_is_large_goes_in_parts(lab: Lab) -> None:
    cloud = lab.in_a_bucket()
    lab.put("from/a", b"x" * BIG)
    with closing(lab.desk()) as desk:
        assert list(desk.routes.movers) == ["copy", "s3", "relay"]
        there = transfer("desk", "cloud", "from/a", BIG)
        desk.submit([there])
        assert settled(desk, there).state is TransferState.SUCCEEDED
        assert sum(method == "PUT" for method, _ in cloud.files.requests) >= 3
        back = transfer("cloud", "desk", "to/a", BIG)
        desk.submit([back])
        assert settled(desk, back).state is TransferState.SUCCEEDED
    assert (lab.folder / "desk" / "to" / "a").read_bytes() == b"x" * BIG


def test_between_two_that_are_elsewhere_each_says_why_not(lab: Lab, ssh: SshServer) -> None:
    lab.behind_ssh(ssh)
    lab.in_a_bucket()
    with closing(lab.desk()) as desk:
        assert list(desk.routes.movers) == ["copy", "rsync", "s3", "relay"]
        wanted = transfer("far", "cloud", "from/a", BIG)
        answer = desk.submit([wanted])[wanted.key]
        assert isinstance(answer, Refused)
        for words in (
            "far is not on this machine",
            "cloud is reached neither",
            "far is neither on this machine nor a bucket",
            "too large to pass",
        ):
            assert words in answer.reason
