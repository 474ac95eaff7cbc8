"""The copy mover against the contract that all movers share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connectors.contract import MoverContract
from connectors.copy import CopyMover


class CopyRig:
    source = "east"
    destination = "west"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.movers: list[CopyMover] = []
        for name in (self.source, self.destination):
            (folder / name).mkdir()

    def connect(self) -> CopyMover:
        roots = {name: self.folder / name for name in (self.source, self.destination)}
        mover = CopyMover(roots, lambda: time.time_ns() // 1000)
        self.movers.append(mover)
        return mover

    def put(self, site: str, path: str, content: bytes) -> None:
        file = self.folder / site / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def get(self, site: str, path: str) -> bytes | None:
        file = self.folder / site / path
        return file.read_bytes() if file.is_file() else None

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        deadline = time.monotonic() + within
        while not predicate():
            assert time.monotonic() < deadline, f"did not come true within {within} s"
            time.sleep(0.002)

    def darken(self, site: str) -> None:
        (self.folder / site).rename(self.folder / f"{site}.away")


class TestCopyMover(MoverContract):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[CopyRig]:
        rig = CopyRig(tmp_path)
        yield rig
        for mover in rig.movers:
            mover.close()
