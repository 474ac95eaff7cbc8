"""What AWS Batch says of a job, in our words. What has another type than it should counts as not said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.files.pod import NO_BUCKET, UNFIT_IMAGE
from connectors.model import JobState, JobStatus

OWNER, KEY, DIGEST = "crossfade-owner", "crossfade-key", "crossfade-digest"
STATES = {
    "SUBMITTED": JobState.QUEUED,
    "PENDING": JobState.QUEUED,
    "RUNNABLE": JobState.QUEUED,
    "STARTING": JobState.QUEUED,
    "RUNNING": JobState.RUNNING,
    "SUCCEEDED": JobState.SUCCEEDED,
    "FAILED": JobState.FAILED,
}
_TOLD = 300


def status_of(job: Mapping[str, Any], key: str, *, now: int, stuck_after: float) -> JobStatus:
    """From an answer of DescribeJobs. `stuck_after`: seconds."""
    word, reason = text(job.get("status")), text(job.get("statusReason"))
    container = job.get("container")
    ran = container if isinstance(container, dict) else {}
    code = ran.get("exitCode")
    code = code if isinstance(code, int) and not isinstance(code, bool) else None
    state = STATES.get(word, JobState.UNKNOWN)
    if state is JobState.FAILED:
        state = _failure(job, reason, text(ran.get("reason")))
    reason = text(ran.get("reason")) or reason
    if code in {NO_BUCKET, UNFIT_IMAGE} and state is JobState.FAILED:
        reason = "the container could not reach the bucket" if code == NO_BUCKET else "the image lacks a program"
    told = code if state in {JobState.SUCCEEDED, JobState.FAILED, JobState.OUT_OF_MEMORY} else None
    return JobStatus(
        key=key,
        native_id=text(job.get("jobId")),
        state=state,
        exit_code=told,
        signal=told - 128 if told is not None and 128 < told <= 192 else None,
        native_state=word[:60],
        native_reason=" ".join(reason.split())[:_TOLD],
        stuck_reason=_stuck(job, word, reason, now=now, stuck_after=stuck_after),
        submitted_at=moment(job.get("createdAt")),
        started_at=moment(job.get("startedAt")),
        ended_at=moment(job.get("stoppedAt")) if state.final else None,
    )


def _failure(job: Mapping[str, Any], reason: str, container: str) -> JobState:
    if job.get("isTerminated") is True or job.get("isCancelled") is True:
        return JobState.CANCELED
    if reason.startswith("Host EC2"):  # how a reclaimed spot instance is told
        return JobState.PREEMPTED
    if "exceeded timeout" in reason:
        return JobState.TIMED_OUT
    if container.startswith("OutOfMemoryError"):
        return JobState.OUT_OF_MEMORY
    return JobState.FAILED


def _stuck(job: Mapping[str, Any], word: str, reason: str, *, now: int, stuck_after: float) -> str:
    if word != "RUNNABLE":
        return ""
    if "MISCONFIGURATION" in reason:
        return reason[:_TOLD]
    since = moment(job.get("createdAt"))
    if since is None or now - since < stuck_after * 1e6:
        return ""
    return (reason or "RUNNABLE for too long: no instance of the queue's environments can take it")[:_TOLD]


def tag(job: Mapping[str, Any], name: str) -> str:
    """A tag's value; empty: none."""
    tags = job.get("tags")
    return text(tags.get(name)) if isinstance(tags, dict) else ""


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def moment(value: object) -> int | None:
    """Milliseconds since the epoch, as µs."""
    good = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**14
    return value * 1000 if good and isinstance(value, int) else None
