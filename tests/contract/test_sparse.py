"""Files with holes, and files that are larger than what they are put on."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.copy import CopyMover
from connectors.errands import Canceled, TransferFailure, reading
from connectors.errors import Fault
from connectors.folders.failure import destination_side
from connectors.model import Accepted, Transfer, TransferItem, TransferState, TransferStatus
from connectors.tree import BLOCK, Tree, blocks, digest_of

KEY = "cfsparse00000001"
GIB = 1 << 30
TERABYTE = 10**12


def sparse(path: Path, size: int, **data: int) -> Path:
    """A file of that size that holds nothing but these words, each at its offset."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for word, offset in data.items():
            file.seek(offset)
            file.write(word.encode())
        file.truncate(size)
    return path


def on_disk(path: Path) -> int:
    return path.stat().st_blocks * 512


def needs_holes(folder: Path) -> None:
    if on_disk(sparse(folder / "probe", 64 << 20)) > 1 << 20:
        pytest.skip("the file system here keeps no holes")


class Lab:
    def __init__(self, folder: Path) -> None:
        self.east, self.west = folder / "east", folder / "west"
        self.east.mkdir()
        self.west.mkdir()
        self.mover = CopyMover({"east": self.east, "west": self.west}, lambda: time.time_ns() // 1000)

    def begin(self, **facts: object) -> None:
        items = (TransferItem(source="a", destination="b", **facts),)
        wanted = Transfer(key=KEY, source_site="east", destination_site="west", items=items)
        answer = self.mover.submit([wanted])[KEY]
        assert isinstance(answer, Accepted), answer

    def status(self) -> TransferStatus:
        return self.mover.status([KEY])[KEY]

    def ended(self, seconds: float = 300.0) -> TransferStatus:
        deadline = time.monotonic() + seconds
        while (status := self.status()).state is TransferState.ACTIVE:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return status


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    needs_holes(tmp_path)
    made = Lab(tmp_path)
    yield made
    made.mover.close()


# -- reading -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "data"),
    [
        (0, {}),
        (1, {"x": 0}),
        (3 * BLOCK + 5, {}),
        (3 * BLOCK + 5, {"begin": 0}),
        (3 * BLOCK + 5, {"end": 3 * BLOCK + 2}),
        (9 * BLOCK, {"one": 5, "two": 3 * BLOCK - 1, "three": 8 * BLOCK}),
    ],
)
def test_holes_are_read_as_what_they_stand_for(tmp_path: Path, size: int, data: dict[str, int]) -> None:
    path = sparse(tmp_path / "a", size, **data)
    fd = os.open(path, os.O_RDONLY)
    try:
        assert b"".join(bytes(block) for block, _ in blocks(fd)) == path.read_bytes()
        os.lseek(fd, 0, os.SEEK_SET)
        assert digest_of(fd) == (size, hashlib.sha256(path.read_bytes()).hexdigest())
        os.lseek(fd, min(3, size), os.SEEK_SET)
        assert b"".join(bytes(block) for block, _ in blocks(fd)) == path.read_bytes()[3:]
    finally:
        os.close(fd)


def test_holes_are_not_read_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_holes(tmp_path)
    path = sparse(tmp_path / "a", 128 << 20, begin=0, middle=64 << 20)
    asked, pread = [], os.pread

    def counted(fd: int, count: int, at: int) -> bytes:
        asked.append(found := pread(fd, count, at))
        return found

    monkeypatch.setattr(os, "pread", counted)
    with Tree(tmp_path) as tree:
        size, sha256 = tree.digest("a")
    assert size == 128 << 20
    assert sum(map(len, asked)) < 1 << 20
    monkeypatch.undo()
    with path.open("rb") as file:
        assert sha256 == hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize("words", [errno.EINVAL, errno.ENXIO])
def test_a_file_system_that_tells_of_no_holes_is_read_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: int
) -> None:
    path, honest = sparse(tmp_path / "a", 2 * BLOCK + 7, middle=BLOCK), os.lseek

    def lseek(fd: int, at: int, kind: int) -> int:
        if kind in (os.SEEK_DATA, os.SEEK_HOLE) and (words == errno.EINVAL or kind == os.SEEK_HOLE):
            raise OSError(words, os.strerror(words))
        return honest(fd, at, kind)

    monkeypatch.setattr(os, "lseek", lseek)
    with Tree(tmp_path) as tree:
        assert tree.digest("a") == (2 * BLOCK + 7, hashlib.sha256(path.read_bytes()).hexdigest())


def test_long_hashing_tells_how_far_it_is_and_hears_that_it_is_to_end() -> None:
    told: list[str] = []
    stop = threading.Event()
    with reading("hashing a", 4 * GIB, stop=stop, tell=told.append) as heard:
        heard(GIB)
        assert told == ["hashing a, 25 %"]
        stop.set()
        with pytest.raises(Canceled):
            heard(GIB)
    assert told[-1] == ""


# -- copying -------------------------------------------------------------------------------------------------


def test_a_copy_keeps_the_holes_of_a_gigabyte(lab: Lab) -> None:
    sparse(lab.east / "a", GIB + 1, begin=0, middle=GIB // 2 + 4097)
    lab.begin(size=GIB + 1)
    assert lab.ended().state is TransferState.SUCCEEDED
    assert (lab.west / "b").stat().st_size == GIB + 1
    assert on_disk(lab.west / "b") < 1 << 20
    with (lab.west / "b").open("rb") as file:
        assert file.read(5) == b"begin"
        file.seek(GIB // 2 + 4097)
        assert file.read(6) == b"middle"


def test_a_copy_of_a_terabyte_is_begun_at_once_and_ends_within_a_moment_when_it_is_canceled(lab: Lab) -> None:
    sparse(lab.east / "a", TERABYTE, begin=0, end=TERABYTE - 3)
    lab.begin(size=TERABYTE)
    while not lab.status().bytes_moved:
        assert lab.status().state is TransferState.ACTIVE
        time.sleep(0.005)
    began = time.monotonic()
    while not lab.mover.cancel([KEY])[KEY]:
        assert time.monotonic() - began < 5
    assert lab.ended().reason == "canceled"
    assert [path for path in lab.west.rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_a_copy_keeps_the_holes_of_a_terabyte(tmp_path: Path) -> None:
    """Without its digests, which would take an hour: block by block, as the copy goes through it."""
    needs_holes(tmp_path)
    source = sparse(tmp_path / "a", TERABYTE, begin=0, middle=TERABYTE // 2, end=TERABYTE - 3)
    fd = os.open(source, os.O_RDONLY)
    try:
        size = data = 0
        for block, hole in blocks(fd):
            size += len(block)
            data += 0 if hole else len(block)
    finally:
        os.close(fd)
    assert size == TERABYTE
    assert data < 1 << 20


@pytest.mark.slow
def test_a_copy_keeps_the_holes_of_sixteen_gigabytes(lab: Lab) -> None:
    sparse(lab.east / "a", 16 * GIB, begin=0, end=16 * GIB - 3)
    lab.begin()
    said: set[str] = set()
    deadline = time.monotonic() + 900
    while (status := lab.status()).state is TransferState.ACTIVE:
        said.add(status.detail)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert status.state is TransferState.SUCCEEDED
    assert on_disk(lab.west / "b") < 1 << 20
    assert len([words for words in said if words.startswith("comparing a, ")]) > 10


# -- what is too large ---------------------------------------------------------------------------------------


@pytest.mark.fault("F49")
def test_a_file_that_its_destination_cannot_hold_is_told_as_a_lack_of_room_and_leaves_nothing(lab: Lab) -> None:
    (lab.east / "a").write_bytes(os.urandom(3 << 20))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, before[1]))  # as a file system that ends there
    try:
        lab.begin()
        status = lab.ended()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (status.state, status.fault, status.site) == (TransferState.FAILED, "quota", "west")
    assert status.reason == "too large for the file system: 0 (File too large)"
    assert [path for path in lab.west.rglob("*") if path.is_file()] == []


@pytest.mark.fault("F49")
@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "no space"), (errno.EDQUOT, "no space"), (errno.EFBIG, "too large")]
)
def test_what_the_system_says_of_a_lack_of_room_is_no_fault_of_the_site(tmp_path: Path, code: int, words: str) -> None:
    side = destination_side("west", tmp_path)
    with pytest.raises(TransferFailure, match=words) as caught, side.blamed("b"):
        raise OSError(code, os.strerror(code))
    assert caught.value.fault is Fault.QUOTA
