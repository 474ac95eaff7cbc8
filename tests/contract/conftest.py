"""The stores that every claim about the port is put to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.clock import VirtualClock
from broker.store.sql import SqlStore


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1_000_000)


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: VirtualClock) -> Iterator[SqlStore]:
    if request.param == "file":
        made = SqlStore.open(tmp_path / "store" / "crossfade.db", clock=clock)
    else:
        made = SqlStore("sqlite://", clock=clock)
    yield made
    made.close()
