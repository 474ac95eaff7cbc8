"""The mover's contract over Globus: the SDK as it is, a stand-in behind a socket, real folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("connectors.contract")

from globus_mover_kit import Rig, a_living_rig, a_rig  # noqa: E402

from connectors.contract import MoverContract  # noqa: E402


class TestGlobusMover(MoverContract):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[Rig]:
        with a_rig(tmp_path) as made:
            yield made


class TestGlobusMoverInRealTime(MoverContract):
    """A thread works at the tasks while the mover asks, as at the service itself; the patience is short."""

    within = 60.0

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[Rig]:
        with a_living_rig(tmp_path) as made:
            yield made
