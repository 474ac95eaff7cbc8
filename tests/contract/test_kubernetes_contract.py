"""The Kubernetes connector against the contract that all connectors share: the cluster's and the bucket's faces in this
process, payloads simulated under a virtual clock."""

from __future__ import annotations

from pathlib import Path

import pytest
from cloud_kit import VirtualCloud

from connectors.contract import SiteContract


class TestKubernetes(SiteContract):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> VirtualCloud:
        return VirtualCloud(tmp_path)
