"""The stores that every claim about the port is put to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_kit import MovedClock

from broker.store.sql import SqlStore


@pytest.fixture
def clock() -> Iterator[MovedClock]:
    made = MovedClock(1_000_000)
    yield made
    made.close()


@pytest.fixture(params=["file", "memory", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: MovedClock) -> Iterator[SqlStore]:
    if request.param == "file":
        made = SqlStore.open(tmp_path / "store" / "crossfade.db", clock=clock)
    elif request.param == "memory":
        made = SqlStore("sqlite://", clock=clock)
    else:
        server = request.getfixturevalue("postgres")
        made = SqlStore(clock.moves(server, server.database()), clock=clock)
    yield made
    made.close()
