"""The AWS Batch connector against the contract that all connectors share, over a fake; and the fake, held to moto."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from batch_kit import BatchRig
from cloud_kit import pair
from moto import mock_aws

from connectors.aws_batch import AwsBatchSite, BatchOptions, make
from connectors.contract import SiteContract, new_key
from connectors.errors import CredentialError, RequestRefused
from connectors.files.bucket import BucketFiles, Place
from connectors.model import Accepted, JobState, Refused
from connectors.registry import SiteConfig


class TestAwsBatch(SiteContract):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> BatchRig:
        return BatchRig(tmp_path)


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ("preempt", JobState.PREEMPTED),
        ("time_out", JobState.TIMED_OUT),
        ("out_of_memory", JobState.OUT_OF_MEMORY),
    ],
)
def test_what_befalls_a_container_is_told_in_the_common_words(tmp_path: Path, fault: str, state: JobState) -> None:
    rule = {"fault": fault, "job": ".", "after": 5, **({"requeue": False} if fault == "preempt" else {})}
    rig, key = BatchRig(tmp_path, rule), new_key()
    site = rig.connect()
    site.submit([rig.job(key, seconds=600)])
    rig.wait_until(lambda: site.status([key]).items[0].state.final, within=60)
    assert site.status([key]).items[0].state is state
    assert rig.batch.calls.count("submit_job") == 1


def test_a_job_that_no_host_takes_is_told_as_stuck(tmp_path: Path) -> None:
    rig, key = BatchRig(tmp_path, {"fault": "stuck", "job": "."}), new_key()
    site = rig.connect()
    site.submit([rig.job(key)])
    assert not site.status([key]).items[0].stuck_reason
    rig.cloud.clock.advance(3601)
    assert "RUNNABLE for too long" in site.status([key]).items[0].stuck_reason


def test_an_unknown_word_is_kept(tmp_path: Path) -> None:
    rig, key = BatchRig(tmp_path, {"fault": "unknown_word", "job": ".", "word": "DREAMING"}), new_key()
    site = rig.connect()
    site.submit([rig.job(key, seconds=600)])
    rig.wait_until(lambda: site.status([key]).items[0].native_state == "DREAMING", within=60)
    assert site.status([key]).items[0].state is JobState.UNKNOWN


def test_jobs_are_looked_for_in_every_queue_that_is_used(tmp_path: Path) -> None:
    rig, key, lost = BatchRig(tmp_path), new_key(), new_key()
    site = rig.connect()
    site.submit([replace(rig.job(key, seconds=600), submit={"queue": "spot"})])
    assert [item.key for item in site.status([key]).items] == [key]
    answer = site.submit([replace(rig.job(lost), submit={"queue": "elsewhere"})])[lost]
    assert isinstance(answer, Refused), "a job that would not be found again is not sent"


def test_an_image_needs_a_job_definition(tmp_path: Path) -> None:
    rig, key = BatchRig(tmp_path), new_key()
    answer = rig.connect().submit([replace(rig.job(key), image="lab/recon:2")])[key]
    assert isinstance(answer, Refused)
    assert "image 'lab/recon:2' has no job definition" in answer.reason


# -- what is sent, and what comes back: moto checks the one and shows the other ----------------------------------


@pytest.fixture
def moto_batch(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws(config={"batch": {"use_docker": False}}):
        client = boto3.client("batch", region_name="us-east-1")
        role = boto3.client("iam", region_name="us-east-1").create_role(RoleName="role", AssumeRolePolicyDocument="{}")
        environment = client.create_compute_environment(
            computeEnvironmentName="plain", type="UNMANAGED", state="ENABLED", serviceRole=role["Role"]["Arn"]
        )
        order = [{"order": 1, "computeEnvironment": environment["computeEnvironmentArn"]}]
        client.create_job_queue(jobQueueName="normal", state="ENABLED", priority=1, computeEnvironmentOrder=order)
        container = {"image": "busybox", "vcpus": 1, "memory": 64, "command": ["true"]}
        client.register_job_definition(jobDefinitionName="crossfade", type="container", containerProperties=container)
        yield client
        client.close()


def test_the_calls_are_such_as_aws_takes_and_the_fake_tells_no_more_than_moto(moto_batch: Any, tmp_path: Path) -> None:
    rig, key = BatchRig(tmp_path), new_key()
    place = Place(bucket="lab", prefix="", endpoint="http://s3.example.org", region="us-east-1")
    files = BucketFiles(site="aws", place=place, keys=pair, clock=rig.cloud.clock, transport=rig.files)
    options = BatchOptions(queue="normal", definition="crossfade")
    site = AwsBatchSite(
        name="aws", client=moto_batch, files=files, options=options, clock=rig.cloud.clock, owner="here"
    )
    answer = site.submit([rig.job(key)])[key]
    assert isinstance(answer, Accepted)
    (item,) = site.status([key]).items
    assert (item.native_id, item.state) == (answer.native_id, JobState.SUCCEEDED)
    assert site.submit([rig.job(key)])[key] == Accepted(native_id=answer.native_id, adopted=True)
    assert isinstance(site.submit([rig.job(key, digest="d2")])[key], Refused)
    assert [it.key for it in site.list_mine(0).items] == [key]
    assert site.cancel([key, "cfabsent"]) == {key: True, "cfabsent": True}
    assert not site.find(["cfabsent"]).items
    assert all(evidence.ok for evidence in site.probe())
    (real,) = moto_batch.describe_jobs(jobs=[answer.native_id])["jobs"]
    fake_site, twin = rig.connect(), new_key()
    fake_site.submit([rig.job(twin)])
    rig.wait_until(lambda: fake_site.status([twin]).items[0].state.final, within=30)
    (fake,) = rig.batch.describe_jobs(jobs=[fake_site.status([twin]).items[0].native_id])["jobs"]
    described = moto_batch.meta.service_model.operation_model("DescribeJobs").output_shape
    assert set(fake) <= set(described.members["jobs"].member.members)
    shared = set(fake) & set(real)
    assert {"jobId", "jobName", "status", "tags", "createdAt", "container"} <= shared
    assert {name: type(fake[name]) for name in shared} == {name: type(real[name]) for name in shared}


def test_boto3_does_not_send_a_submission_again(tmp_path: Path) -> None:
    for name in ("access", "secret"):
        (tmp_path / name).write_text("testing-0123456789")
        (tmp_path / name).chmod(0o600)
    credentials = {"access_key": f"file:{tmp_path}/access", "secret_key": f"file:{tmp_path}/secret"}
    config = SiteConfig(
        name="aws",
        connector="aws_batch",
        root="s3://lab/one",
        credentials=credentials,
        options={"queue": "normal", "definition": "crossfade", "batch_endpoint": "http://127.0.0.1:9"},
        lanes={"preemptible": {"queue": "spot"}},
    )
    site = make(config, lambda: 1)
    assert site.options.queues == ("normal", "spot")
    assert site._client.meta.config.retries["total_max_attempts"] == 1
    assert "testing-0123456789" not in site.script(BatchRig(tmp_path).job("cf1")).request
    site.close()
    with pytest.raises(RequestRefused, match="queue"):
        make(replace(config, options={}), lambda: 1)
    (tmp_path / "access").unlink()
    with pytest.raises(CredentialError):
        make(config, lambda: 1)
