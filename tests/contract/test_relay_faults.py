"""The relay mover when sites misbehave, and what it asks of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from pathlib import Path

import pytest

from connectors.errors import CredentialError, QuotaError, RequestRefused, SiteBusy, SiteError, SiteUnreachable
from connectors.files.folder import FolderFiles
from connectors.files.root import Root
from connectors.model import FileInfo, Refused, SmallFile, Transfer, TransferItem, TransferState, TransferStatus
from connectors.relay import Limits, RelayMover

NOW = 1_800_000_000_000_000


class Witness(FolderFiles):
    """A site's files that write down how they are asked, and can be told to fail."""

    def __init__(self, folder: Path) -> None:
        root = Root(site=folder.name, path=folder)
        root.prepare()
        super().__init__(root)
        self.calls: list[tuple[str, int]] = []
        self.fail: dict[str, SiteError] = {}
        self.spoil: Callable[[SmallFile], bytes] = lambda file: file.content
        self.lists: Callable[[Sequence[FileInfo]], Sequence[FileInfo]] = lambda found: found

    def _asked(self, verb: str, size: int = 0) -> None:
        self.calls.append((verb, size))
        if verb in self.fail:
            raise self.fail[verb]

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        self._asked("read", limit)
        return super().read(path, offset=offset, limit=limit)

    def read_many(self, paths: Sequence[str], *, limit: int = 1 << 16) -> Mapping[str, bytes]:
        self._asked("read_many", len(paths))
        return super().read_many(paths, limit=limit)

    def write_many(self, files: Sequence[SmallFile]) -> None:
        self._asked("write_many", sum(len(file.content) for file in files))
        for file in files:
            super().write(file.path, self.spoil(file), mode=file.mode)

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        self._asked("list")
        return self.lists(super().list(path, recursive=recursive))

    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        self._asked("digests", len(paths))
        return super().digests(paths)

    def count(self, verb: str) -> int:
        return sum(1 for name, _ in self.calls if name == verb)


class Pair:
    """Two sites, and movers between them."""

    def __init__(self, folder: Path) -> None:
        self.east, self.west = Witness(folder / "east"), Witness(folder / "west")
        self.folder = folder
        self.movers: list[RelayMover] = []
        self._serial = itertools.count()

    def mover(self, limits: Limits | None = None) -> RelayMover:
        sites = {"east": self.east, "west": self.west}
        given = {"west": limits} if limits else None
        self.movers.append(RelayMover(sites, sites, lambda: NOW, limits=given))
        return self.movers[-1]

    def transfer(self, *items: TransferItem, key: str = "") -> Transfer:
        key = key or f"t{next(self._serial)}"
        return Transfer(key=key, source_site="east", destination_site="west", items=items)

    def carry(self, transfer: Transfer, *, mover: RelayMover | None = None) -> TransferStatus:
        mover = mover or self.mover()
        mover.submit([transfer])
        future = mover._errands._known([transfer.key])[transfer.key].future
        assert future is not None
        wait([future], timeout=30)
        return mover.status([transfer.key])[transfer.key]

    def arrived(self) -> list[str]:
        """Every file that was put in place."""
        return [i.path for i in FolderFiles.list(self.west, "to", recursive=True) if not i.is_dir]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    for mover in pair.movers:
        mover.close()


def item(source: str = "from/a", destination: str = "to/a", mode: int | None = None) -> TransferItem:
    return TransferItem(source=source, destination=destination, mode=mode)


@pytest.mark.parametrize(
    "limits", [Limits(file=9), Limits(transfer=19), Limits(files=1)], ids=["file", "transfer", "files"]
)
@pytest.mark.parametrize("folder", [True, False], ids=["folder", "files"])
def test_what_is_too_large_needs_globus_and_is_not_even_hashed(pair: Pair, limits: Limits, folder: bool) -> None:
    pair.east.write("from/a", b"0123456789")
    pair.east.write("from/b", b"0123456789")
    items = [item("from/", "to/")] if folder else [item(), item("from/b", "to/b")]
    status = pair.carry(pair.transfer(*items), mover=pair.mover(limits))
    assert (status.state, status.fault, status.site) == (TransferState.FAILED, "staging", "east")
    assert "needs Globus" in status.reason
    assert pair.east.count("digests") == 0
    assert pair.arrived() == []


def test_what_arrives_damaged_is_put_in_no_place(pair: Pair) -> None:
    pair.east.write("from/a", b"whole")
    pair.west.spoil = lambda file: file.content[:-1]
    status = pair.carry(pair.transfer(item()))
    assert (status.state, status.fault, status.site) == (TransferState.FAILED, "staging", "west")
    assert "corrupt" in status.reason
    assert pair.arrived() == []


def test_what_is_damaged_only_in_its_place_is_taken_away_again(pair: Pair) -> None:
    pair.east.write("from/a", b"whole")
    pair.west.spoil = lambda file: file.content if file.path.startswith("relay/") else b"torn"
    assert pair.carry(pair.transfer(item())).state is TransferState.FAILED
    assert pair.arrived() == []


@pytest.mark.parametrize("size", [10, 100_000], ids=["small", "large"])
def test_a_file_that_changes_while_it_is_read_is_not_delivered(pair: Pair, size: int) -> None:
    pair.east.write("from/a", b"x" * size)
    honest = pair.east.digests

    def changed(paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        found = honest(paths)
        pair.east.write("from/a", b"y" * size)
        return found

    pair.east.digests = changed  # type: ignore[method-assign]
    status = pair.carry(pair.transfer(item()))
    assert (status.state, status.site) == (TransferState.FAILED, "east")
    assert "corrupt" in status.reason
    assert pair.arrived() == []


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (SiteUnreachable("dark"), "site"),
        (SiteBusy("later"), "site"),
        (CredentialError("expired"), "credential"),
        (QuotaError("full"), "quota"),
        (RequestRefused("no"), "staging"),
    ],
)
def test_a_failure_says_whose_fault_it_was(pair: Pair, error: SiteError, fault: str) -> None:
    pair.east.write("from/a", b"A")
    pair.west.fail["write_many"] = error
    status = pair.carry(pair.transfer(item()))
    assert (status.state, status.fault, status.site) == (TransferState.FAILED, fault, "west")


def test_an_empty_or_absent_folder_is_missing(pair: Pair) -> None:
    status = pair.carry(pair.transfer(item("absent/", "to/")))
    assert (status.fault, status.site) == ("staging", "east")
    assert "absent/" in status.reason


@pytest.mark.parametrize("path", ["elsewhere/x", "from/../../x", "/etc/passwd"])
def test_a_listing_that_names_other_places_is_not_followed(pair: Pair, path: str) -> None:
    pair.east.write("from/a", b"A")
    pair.east.lists = lambda _: [FileInfo(path=path, size=1)]
    status = pair.carry(pair.transfer(item("from/", "to/")))
    assert (status.state, status.fault, status.site) == (TransferState.FAILED, "staging", "east")
    assert pair.arrived() == []


def test_a_restarted_mover_does_not_know_and_asked_again_moves_nothing(pair: Pair) -> None:
    pair.east.write("from/a", b"first")
    transfer = pair.transfer(item())
    assert pair.carry(transfer).state is TransferState.SUCCEEDED
    again = pair.mover()
    assert again.status([transfer.key])[transfer.key].state is TransferState.UNKNOWN
    pair.east.write("from/a", b"second")
    writes = pair.west.count("write_many")
    status = pair.carry(transfer, mover=again)
    assert (status.state, status.bytes_moved) == (TransferState.SUCCEEDED, 5)
    assert pair.west.read("to/a") == b"first"
    assert pair.west.count("write_many") == writes


def test_a_key_of_another_transfer_is_not_taken_for_done(pair: Pair) -> None:
    pair.east.write("from/a", b"A")
    mover = pair.mover()
    assert pair.carry(pair.transfer(item(), key="k"), mover=mover).state is TransferState.SUCCEEDED
    other = pair.transfer(item(destination="to/b"), key="k")
    assert isinstance(mover.submit([other])["k"], Refused)
    status = pair.carry(other)
    assert status.state is TransferState.FAILED
    assert "another transfer" in status.reason


@pytest.mark.parametrize("target", ["relay/k.done", "relay/incoming/x", "incoming/x", "jobs/x", ".crossfade-site"])
def test_the_places_of_receipts_and_records_are_no_destinations(pair: Pair, target: str) -> None:
    pair.east.write("from/a", b"A")
    transfer = pair.transfer(item(destination=target))
    assert isinstance(pair.mover().submit([transfer])[transfer.key], Refused)


def test_a_hundred_small_files_take_a_handful_of_calls(pair: Pair) -> None:
    for i in range(100):
        pair.east.write(f"from/{i}", b"x" * i)
    pair.east.calls.clear()
    pair.west.calls.clear()
    assert pair.carry(pair.transfer(item("from/", "to/"))).state is TransferState.SUCCEEDED
    assert len(pair.arrived()) == 100
    assert len(pair.east.calls) <= 3
    assert len(pair.west.calls) <= 6  # receipt, sweep, two loads, two looks


def test_memory_holds_a_block_at_reading_and_a_load_at_writing(pair: Pair) -> None:
    for i in range(6):
        pair.east.write(f"from/{i}", b"x" * (1_500_000 + i))
    assert pair.carry(pair.transfer(item("from/", "to/"))).state is TransferState.SUCCEEDED
    assert max(size for verb, size in pair.east.calls if verb == "read") <= 1 << 20
    assert max(size for verb, size in pair.west.calls if verb == "write_many") <= 4 << 20


def test_a_mode_that_is_asked_for_is_given(pair: Pair) -> None:
    pair.east.write("from/a", b"A")
    pair.carry(pair.transfer(item(mode=0o750)))
    assert (pair.folder / "west/to/a").stat().st_mode & 0o777 == 0o750


def test_nothing_is_left_under_incoming_names_and_what_the_dead_left_is_swept(pair: Pair) -> None:
    pair.west.write("relay/incoming/old.1234.0", b"left behind")
    pair.west.write("relay/incoming/other.1234.0", b"of a process at work")
    dated = {"relay/incoming/old.1234.0": 1, "relay/incoming/other.1234.0": NOW - 1_000_000}
    pair.west.lists = lambda found: [
        FileInfo(path=i.path, size=i.size, modified_at=dated.get(i.path, NOW)) for i in found
    ]
    pair.east.write("from/a", b"A")
    assert pair.carry(pair.transfer(item())).state is TransferState.SUCCEEDED
    left = [i.path for i in FolderFiles.list(pair.west, "relay/incoming")]
    assert left == ["relay/incoming/other.1234.0"]


def test_the_narrower_side_says_what_may_go_through() -> None:
    wide, narrow = Limits(file=100, transfer=10), Limits(file=10, transfer=100)
    assert Limits.least([wide, narrow]) == Limits(file=10, transfer=10)
