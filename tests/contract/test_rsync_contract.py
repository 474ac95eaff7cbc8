"""The rsync mover against the contract that all movers share, in both directions, through a real sshd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from command_kit import SshServer
from rsync_kit import RsyncRig, server

from connectors.contract import MoverContract


@pytest.fixture(scope="module")
def ssh() -> Iterator[SshServer]:
    with server() as started:
        yield started


class TestRsyncToASiteBehindSsh(MoverContract):
    @pytest.fixture
    def rig(self, tmp_path: Path, ssh: SshServer) -> Iterator[RsyncRig]:
        rig = RsyncRig(tmp_path, ssh, upload=True)
        yield rig
        rig.end()


class TestRsyncFromASiteBehindSsh(MoverContract):
    @pytest.fixture
    def rig(self, tmp_path: Path, ssh: SshServer) -> Iterator[RsyncRig]:
        rig = RsyncRig(tmp_path, ssh, upload=False)
        yield rig
        rig.end()
