"""The s3 mover against the contract that all movers share: over the bucket's face, and over moto's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from cloud_kit import ACCESS, SECRET
from moto import mock_aws
from s3_kit import MotoTransport, S3Rig

from connectors.contract import MoverContract


@pytest.fixture(params=["up", "down"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[S3Rig]:
    rig = S3Rig(tmp_path, upload=request.param == "up")
    yield rig
    rig.end()


class TestS3(MoverContract):
    pass


class TestS3AtMoto(MoverContract):
    # what a path may be is settled before anybody is asked
    test_an_unsafe_path_is_refused = None

    @pytest.fixture
    def rig(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[S3Rig]:
        with mock_aws():
            client = boto3.client("s3", region_name="us-east-1", aws_access_key_id=ACCESS, aws_secret_access_key=SECRET)
            client.create_bucket(Bucket="lab")
            rig = S3Rig(tmp_path, upload=self.upload, part=5 << 20, transport=MotoTransport())
            yield rig
            rig.end()
            client.close()

    upload = True


class TestS3FromMoto(TestS3AtMoto):
    upload = False
