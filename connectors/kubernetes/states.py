"""What a Job and its pods say of a job, in our words.

The Job's own conditions decide; pods, which vanish sooner, say more. What has another type than it should counts as
not said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connectors.files.pod import NO_BUCKET, UNFIT_IMAGE
from connectors.kubernetes.manifest import CANCELED, COMMENT, KEY_LABEL, QUEUE
from connectors.model import JobState, JobStatus
from connectors.names import Label, label_of

_EXIT = re.compile(r"failed with exit code (\d{1,3})\b")
_FATAL_WAITS = frozenset(
    {
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
_AT_ONCE = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_PHASES = frozenset({"Pending", "Running", "Succeeded", "Failed"})
_TOLD = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A Job of ours, taken apart."""

    key: str
    uid: str
    label: Label | None
    status: JobStatus
    suspended: bool
    canceled: bool
    """We have asked for its end."""
    quiet: bool
    """No pod of it lives, as far as the cluster says."""
    version: str


def seen_of(job: Any, pods: Sequence[Any], *, now: int, stuck_after: float) -> Seen | None:
    """None: no Job, or one without the labels that ours have. `stuck_after`: seconds."""
    meta, spec, status = (mapping(mapping(job).get(part)) for part in ("metadata", "spec", "status"))
    key, uid = text(mapping(meta.get("labels")).get(KEY_LABEL)), text(meta.get("uid"))
    if not key or not uid:
        return None
    quiet = not count(status.get("active")) and not count(status.get("terminating"))
    return Seen(
        key=key,
        uid=uid,
        label=label_of(mapping(meta.get("annotations")).get(COMMENT)),
        status=_status(key, uid, meta, spec, status, pods, now=now, stuck_after=stuck_after),
        suspended=spec.get("suspend") is True,
        canceled=CANCELED in mapping(meta.get("annotations")),
        quiet=quiet,
        version=text(meta.get("resourceVersion")),
    )


def _status(
    key: str,
    uid: str,
    meta: Mapping[str, Any],
    spec: Mapping[str, Any],
    status: Mapping[str, Any],
    pods: Sequence[Any],
    *,
    now: int,
    stuck_after: float,
) -> JobStatus:
    conditions = _conditions(status)
    canceled = CANCELED in mapping(meta.get("annotations"))
    ends = [_end_of(mapping(pod)) for pod in pods]
    state, word, reason, stuck = JobState.QUEUED, "Pending", "", ""
    code, number = None, None
    if "Complete" in conditions:
        state, word, code = JobState.SUCCEEDED, "Complete", 0
    elif "Failed" in conditions:
        found = conditions["Failed"]
        word, reason = found.reason or "Failed", found.message
        state, code, number, more = _failure(found, ends, canceled=canceled)
        reason = more or reason
    elif spec.get("suspend") is True or "Suspended" in conditions:
        queue = text(mapping(meta.get("labels")).get(QUEUE))
        state, word = (JobState.QUEUED if queue else JobState.HELD), "Suspended"
        reason = f"waits in Kueue's queue {queue}" if queue else "created suspended"
    elif "FailureTarget" in conditions or "SuccessCriteriaMet" in conditions:
        state, word = JobState.RUNNING, "FailureTarget" if "FailureTarget" in conditions else "SuccessCriteriaMet"
        reason = conditions[word].message
    elif pods or count(status.get("active")):
        state, word, reason, stuck = _living(status, pods, now=now, stuck_after=stuck_after)
    else:
        begun = moment(status.get("startTime"))
        if begun is not None and now - begun > stuck_after * 1e6:
            stuck = reason = f"no pod was made for it; see kubectl describe job {key}"
    started = [when for end in ends if (when := end.started_at) is not None]
    final = state.final
    return JobStatus(
        key=key,
        native_id=uid,
        state=state,
        exit_code=code,
        signal=number,
        native_state=word[:60],
        native_reason=" ".join(reason.split())[:_TOLD],
        stuck_reason=" ".join(stuck.split())[:_TOLD],
        submitted_at=moment(meta.get("creationTimestamp")),
        started_at=min(started) if started else None,
        ended_at=(moment(status.get("completionTime")) or _ended(conditions)) if final else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    reason: str
    message: str
    at: int | None


def _conditions(status: Mapping[str, Any]) -> dict[str, Condition]:
    """Those that hold, by type."""
    found = {}
    listed = status.get("conditions")
    for item in listed if isinstance(listed, list) else ():
        one = mapping(item)
        if one.get("status") == "True" and text(one.get("type")):
            at = moment(one.get("lastTransitionTime"))
            found[text(one["type"])] = Condition(
                reason=text(one.get("reason")), message=text(one.get("message")), at=at
            )
    return found


def _ended(conditions: Mapping[str, Condition]) -> int | None:
    return next((conditions[name].at for name in ("Complete", "Failed") if name in conditions), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """What a pod says of its end."""

    disruption: str = ""
    reason: str = ""
    code: int | None = None
    message: str = ""
    started_at: int | None = None


def _end_of(pod: Mapping[str, Any]) -> _End:
    status = mapping(pod.get("status"))
    disrupted = _conditions(status).get("DisruptionTarget")
    code, reason, message, started = None, text(status.get("reason")), "", None
    for container in _containers(status):
        state = mapping(container.get("state"))
        ended, running = mapping(state.get("terminated")), mapping(state.get("running"))
        started = started or moment(ended.get("startedAt") or running.get("startedAt"))
        if ended and code is None:
            told = ended.get("exitCode")
            code = told if isinstance(told, int) and not isinstance(told, bool) and 0 <= told < 1 << 16 else None
            reason = reason or text(ended.get("reason"))
            message = text(ended.get("message"))
    word = f"{disrupted.reason or 'DisruptionTarget'}: {disrupted.message}" if disrupted else ""
    return _End(disruption=word, reason=reason, code=code, message=message, started_at=started)


def _failure(found: Condition, ends: Sequence[_End], *, canceled: bool) -> tuple[JobState, int | None, int | None, str]:
    """State, exit code, signal, and a better reason than the Job's own where a pod has one."""
    last = next((end for end in reversed(ends) if end.disruption or end.code or end.reason), _End())
    told = _EXIT.search(found.message)
    code = last.code if last.code is not None else int(told[1]) if told else None
    if canceled:
        return JobState.CANCELED, None, None, "canceled by crossfade"
    if last.disruption or "DisruptionTarget" in found.message:
        gone = last.disruption.startswith("DeletionByPodGC")
        return (JobState.NODE_FAILED if gone else JobState.PREEMPTED), None, None, last.disruption
    if found.reason == "DeadlineExceeded" or last.reason == "DeadlineExceeded":
        return JobState.TIMED_OUT, None, None, ""
    if last.reason == "OOMKilled":
        return JobState.OUT_OF_MEMORY, code, None, "OOMKilled"
    if last.reason in {"NodeLost", "NodeShutdown", "Terminated"} and not code:
        return JobState.NODE_FAILED, None, None, last.reason
    if last.reason in {"Evicted", "Preempting"}:
        return JobState.PREEMPTED, None, None, last.reason
    if code in {NO_BUCKET, UNFIT_IMAGE}:
        ours = "the pod could not reach the bucket" if code == NO_BUCKET else "the image lacks a program"
        return JobState.FAILED, code, None, last.message or ours
    number = code - 128 if code is not None and 128 < code <= 192 else None
    return JobState.FAILED, code, number, last.message.strip().splitlines()[-1] if last.message.strip() else ""


def _living(
    status: Mapping[str, Any], pods: Sequence[Any], *, now: int, stuck_after: float
) -> tuple[JobState, str, str, str]:
    """State, word, reason and stuck reason of a Job that is at work."""
    if count(status.get("ready")):
        return JobState.RUNNING, "Running", "", ""
    state, word, reason, stuck = JobState.QUEUED, "Pending", "", ""
    for pod in pods:
        told = mapping(mapping(pod).get("status"))
        phase = text(told.get("phase"))
        if phase == "Running":
            return JobState.RUNNING, "Running", "", ""
        if phase == "Pending":
            reason, stuck = _waiting(mapping(pod), told, now=now, stuck_after=stuck_after)
        elif phase not in _PHASES and phase:
            state, word, reason = JobState.UNKNOWN, phase, text(told.get("message"))
        elif phase:  # ended, and the Job's controller has not yet said so
            state, word = JobState.RUNNING, phase
    return state, word, reason, stuck


def _waiting(pod: Mapping[str, Any], status: Mapping[str, Any], *, now: int, stuck_after: float) -> tuple[str, str]:
    since = moment(mapping(pod.get("metadata")).get("creationTimestamp"))
    long = since is not None and now - since >= stuck_after * 1e6
    for container in _containers(status):
        waiting = mapping(mapping(container.get("state")).get("waiting"))
        reason = text(waiting.get("reason"))
        if reason in _FATAL_WAITS:
            told = f"{reason}: {text(waiting.get('message'))}".rstrip(": ")
            # pulling is tried again for ever; a registry that fails for a moment is no reason to give up
            return told, told if long or reason in _AT_ONCE or reason == "ImagePullBackOff" else ""
        if reason and reason not in {"ContainerCreating", "PodInitializing"}:
            return reason, ""
    listed = status.get("conditions")
    for item in listed if isinstance(listed, list) else ():
        one = mapping(item)
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            told = f"{text(one.get('reason'))}: {text(one.get('message'))}".rstrip(": ")
            at = moment(one.get("lastTransitionTime"))
            long = long or (at is not None and now - at >= stuck_after * 1e6)
            return told, told if long and one.get("reason") == "Unschedulable" else ""
    return "", ""


def _containers(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for name in ("containerStatuses", "initContainerStatuses"):
        listed = status.get(name)
        found += [mapping(item) for item in listed] if isinstance(listed, list) else []
    return found


# -- foreign values ------------------------------------------------------------------------------------------


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def moment(value: object) -> int | None:
    """µs of an RFC 3339 time; None: no time."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        found = datetime.fromisoformat(value)
        return round(found.timestamp() * 1e6) if found.tzinfo else None
    except (ValueError, OverflowError):
        return None
