"""AWS Batch for tests: what moto cannot play (states, reclaimed hosts, lost answers) over the sandbox's batch model.

Held to moto's answers by tests/contract/test_aws_batch_contract.py: what it tells, moto tells in the same shape.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from cloud_kit import Dark, VirtualCloud, pair

from connectors.aws_batch import AwsBatchSite, BatchOptions
from connectors.base import Site
from connectors.files.bucket import BucketFiles, Place
from connectors.model import JobSpec, JobState
from sandbox.facility import JobView, Order, OrderRefused
from sandbox.serving import InProcess

_WORDS = {
    JobState.QUEUED: "RUNNABLE",
    JobState.HELD: "RUNNABLE",
    JobState.RUNNING: "RUNNING",
    JobState.SUCCEEDED: "SUCCEEDED",
}
_REASONS = {
    JobState.PREEMPTED: "Host EC2 (instance i-0123456789abcdef0) terminated.",
    JobState.TIMED_OUT: "Job attempt duration exceeded timeout",
    JobState.FAILED: "Essential container in task exited",
    JobState.OUT_OF_MEMORY: "Essential container in task exited",
}
_PAGE = 7


class FakeBatch:
    """As boto3's client; jobs are the model's."""

    def __init__(self, cloud: VirtualCloud) -> None:
        self._cloud = cloud
        self._asked: dict[str, dict[str, Any]] = {}
        self._terminated: set[str] = set()
        self.lose_next = self.dark = False
        self.calls: list[str] = []

    def _called(self, verb: str) -> None:
        if self.dark:
            raise EndpointConnectionError(endpoint_url="https://batch.example.org")
        self.calls.append(verb)

    def close(self) -> None: ...

    def submit_job(self, **asked: Any) -> dict[str, Any]:
        self._called("submit_job")
        variables = {item["name"]: item["value"] for item in asked["containerOverrides"]["environment"]}
        folder = f"{self._cloud.facility.files.root}/{variables['CROSSFADE_DIRECTORY']}"
        script = f"#!/bin/sh\ncd '{folder}' || exit 1\nexec /bin/sh {variables['CROSSFADE_ENTRY']}\n"
        try:
            identity = self._cloud.facility.submit(Order(name=asked["jobName"], script=script, requeue=False))
        except OrderRefused as error:
            said = {"Code": "ClientException", "Message": str(error)}
            told: Any = {"Error": said, "ResponseMetadata": {"HTTPStatusCode": 400}}
            raise ClientError(told, "SubmitJob") from error
        self._asked[identity] = asked
        if self.lose_next:
            self.lose_next = False
            raise ReadTimeoutError(endpoint_url="https://batch.example.org")
        return {"jobName": asked["jobName"], "jobId": identity, "jobArn": f"arn:aws:batch:x:1:job/{identity}"}

    def list_jobs(self, *, jobQueue: str, filters: Any, nextToken: str = "") -> dict[str, Any]:  # noqa: N803
        self._called("list_jobs")
        ((wanted,),) = [one["values"] for one in filters]
        found = [
            {"jobId": view.native_id, "jobName": view.order.name}
            for view in self._cloud.facility.jobs()
            if self._asked[view.native_id]["jobQueue"] == jobQueue
            and (view.order.name.startswith(wanted[:-1]) if wanted.endswith("*") else view.order.name == wanted)
        ]
        start = int(nextToken or 0)
        more = {"nextToken": str(start + _PAGE)} if start + _PAGE < len(found) else {}
        return {"jobSummaryList": found[start : start + _PAGE], **more}

    def describe_jobs(self, *, jobs: list[str]) -> dict[str, Any]:
        self._called("describe_jobs")
        assert 0 < len(jobs) <= 100
        return {"jobs": [self._told(view) for view in self._cloud.facility.jobs() if view.native_id in jobs]}

    def _told(self, view: JobView) -> dict[str, Any]:
        asked = self._asked[view.native_id]
        ours = view.native_id in self._terminated
        told: dict[str, Any] = {
            "jobId": view.native_id,
            "jobName": view.order.name,
            "jobQueue": asked["jobQueue"],
            "status": view.word if view.state is JobState.UNKNOWN else _WORDS.get(view.state, "FAILED"),
            "tags": asked["tags"],
            "createdAt": view.submitted_at // 1000,
            "isTerminated": ours,
            "container": {},
        }
        if view.state.final:
            told["container"]["exitCode"] = view.exit_code
            told["statusReason"] = "canceled by crossfade" if ours else _REASONS.get(view.state, "")
            if view.state is JobState.OUT_OF_MEMORY:
                told["container"] = {
                    "exitCode": 137,
                    "reason": "OutOfMemoryError: Container killed due to memory usage",
                }
        for name, at in (("startedAt", view.started_at), ("stoppedAt", view.ended_at)):
            if at is not None:
                told[name] = at // 1000
        return told

    def terminate_job(self, *, jobId: str, reason: str) -> dict[str, Any]:  # noqa: N803
        self._called("terminate_job")
        assert reason
        if self._cloud.facility.cancel(jobId):
            self._terminated.add(jobId)
        return {}

    def describe_job_queues(self, *, jobQueues: list[str]) -> dict[str, Any]:  # noqa: N803
        self._called("describe_job_queues")
        return {"jobQueues": [{"jobQueueName": name, "state": "ENABLED", "status": "VALID"} for name in jobQueues]}


class BatchRig:
    """Contract rig."""

    def __init__(self, folder: Path, *rules: Any) -> None:
        self.cloud = VirtualCloud(folder, *rules)
        self.batch = FakeBatch(self.cloud)
        self.files = Dark(InProcess(self.cloud.s3))

    def connect(self) -> AwsBatchSite:
        place = Place(bucket=VirtualCloud.bucket, prefix="", endpoint="http://s3.example.org", region="us-east-1")
        files = BucketFiles(site="aws", place=place, keys=pair, clock=self.cloud.clock, transport=self.files)
        options = BatchOptions(queue="normal", queues=("normal", "spot"), definition="crossfade:1")
        return AwsBatchSite(
            name="aws", client=self.batch, files=files, options=options, clock=self.cloud.clock, owner="here"
        )

    def job(self, key: str, *, seconds: float = 0.0, exit_code: int = 0, digest: str = "d1") -> JobSpec:
        return self.cloud.job(key, seconds=seconds, exit_code=exit_code, digest=digest)

    def executions(self, key: str) -> int:
        return self.cloud.executions(key)

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        self.cloud.wait_until(predicate, within=within)

    def darken(self) -> None:
        self.batch.dark = self.files.dark = True

    def brighten(self) -> None:
        self.batch.dark = self.files.dark = False

    def lose_next_reply(self, site: Site) -> bool:
        self.batch.lose_next = True
        return True
