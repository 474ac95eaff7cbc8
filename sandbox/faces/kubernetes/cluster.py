"""What a cluster keeps: Jobs, their pods, and how both follow what the facility behind says of its jobs."""

from __future__ import annotations

import copy
import random
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors.errors import NotThere
from connectors.model import JobState
from sandbox.faces.kubernetes.pods import PodPlace, Secrets, Unmountable, folders_of, order_of
from sandbox.faces.kubernetes.words import Refuse, moment
from sandbox.facility import Facility, JobView, OrderRefused

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_DISRUPTIONS = {
    JobState.PREEMPTED: ("PreemptionByScheduler", "preempting to accommodate a higher priority pod"),
    JobState.NODE_FAILED: ("DeletionByPodGC", "PodGC: node no longer exists"),
}
_EVENTS = 5_000
_TOLD = 2_048
"""Bytes of a log that are told with a failure."""


@dataclass(slots=True)
class Pod:
    """One pod; what is told of it is made anew each time."""

    place: PodPlace
    made_at: int
    native_id: str = ""
    """Empty: it was never handed to the facility."""
    trouble: tuple[str, str] = ("", "")
    """Why its container waits, and in which words."""
    view: JobView | None = None
    version: int = 0
    ended: bool = False
    message: str = ""
    """Its last words, where it failed."""
    told: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Job:
    """One Job: what was asked for, and its life."""

    body: dict[str, Any]
    """apiVersion, kind, metadata, spec."""
    made_at: int
    version: int = 0
    pods: list[Pod] = field(default_factory=list)
    failed: int = 0
    begun_at: int | None = None
    over: tuple[str, str, str] | None = None
    """Type, reason and message of its last condition."""
    over_at: int | None = None
    late: bool = False
    """Past its deadline: being ended."""
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.body["metadata"]["namespace"])

    @property
    def suspended(self) -> bool:
        return bool(self.body["spec"].get("suspend"))


class Cluster:
    """Jobs over a facility. Not thread-safe by itself: whoever calls holds the face's lock."""

    def __init__(self, facility: Facility, *, secrets: Mapping[str, Secrets], simulated: bool) -> None:
        """`secrets`: by namespace. `simulated`: the facility executes nothing, and bucket and files are one."""
        self.facility = facility
        self.jobs: dict[tuple[str, str], Job] = {}
        self.accepted: Counter[str] = Counter()
        """How many creations were accepted, by name."""
        self.version = 1_000
        self.events: deque[tuple[int, str, str, dict[str, Any]]] = deque(maxlen=_EVENTS)
        """Version, what happened, kind of object, the object then."""
        self._secrets, self._simulated = secrets, simulated
        self._dice = random.Random(facility.name)  # noqa: S311 - names of pods

    # -- Jobs ----------------------------------------------------------------------------------------------

    def create(self, body: dict[str, Any]) -> Job:
        now = self.facility.now()
        job = Job(body=body, made_at=now)
        body["metadata"].update(uid=str(uuid.uuid4()), creationTimestamp=moment(now), generation=1)
        _default(body)
        if not job.suspended:
            self._begin(job, now)
        self.jobs[job.namespace, job.name] = job
        self.accepted[job.name] += 1
        self._tell(job, now)
        return job

    def changed(self, job: Job, body: dict[str, Any]) -> None:
        """Its specification is another one now."""
        now = self.facility.now()
        before, job.body = job.suspended, body
        if before and not job.suspended and job.over is None:
            self._begin(job, now)
        elif job.suspended and not before:
            for pod in job.pods:
                self._end(pod)
                self._event("DELETED", "Pod", pod.told)
            job.pods, job.begun_at = [], None
        self._tell(job, now)
        self.follow()

    def remove(self, job: Job) -> None:
        for pod in job.pods:
            self._end(pod)
            self._event("DELETED", "Pod", pod.told)
        self.jobs.pop((job.namespace, job.name), None)
        self._event("DELETED", "Job", job.told)

    def _begin(self, job: Job, now: int) -> None:
        job.begun_at = now
        self._start(job, now)

    def _start(self, job: Job, now: int) -> None:
        """One more pod. Raises Refuse."""
        name = f"{job.name[:57]}-{''.join(self._dice.choices(_LETTERS, k=5))}"
        identity = str(uuid.uuid4())
        folder = f"{self.facility.files.root}/pods/{identity}"
        place = PodPlace(name=name, namespace=job.namespace, uid=identity, folder=folder, log=f"{folder}/{name}.log")
        pod = Pod(place=place, made_at=now)
        spec = job.body["spec"]["template"]["spec"]
        if self.facility.faults.take("image_pull", job=job.name) is not None:
            image = spec["containers"][-1].get("image", "")
            pod.trouble = ("ImagePullBackOff", f'Back-off pulling image "{image}"')
        elif self.facility.faults.take("unschedulable", job=job.name) is not None:
            pod.trouble = (
                "Unschedulable",
                "0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector.",
            )
        else:
            self._hand_over(job, pod)
        job.pods.append(pod)

    def _hand_over(self, job: Job, pod: Pod) -> None:
        spec = job.body["spec"]["template"]["spec"]
        files = self.facility.files
        root = files.root if self._simulated else ""
        try:
            order = order_of(job.body, pod.place, self._secrets.get(job.namespace, {}), simulated_root=root)
        except Unmountable as error:
            pod.trouble = ("CreateContainerConfigError", str(error))
            return
        for folder in folders_of(spec, pod.place):
            files.mkdir(folder)
        try:
            pod.native_id = self.facility.submit(order)
        except OrderRefused as error:
            quota = f'jobs.batch "{job.name}" is forbidden: exceeded quota: {error}'
            if error.kind == "limit":
                raise Refuse(403, quota) from error
            if error.kind == "qos":
                raise Refuse(403, f"no PriorityClass with name {order.qos} was found") from error
            raise Refuse(422, f'Job.batch "{job.name}" is invalid: {error}') from error

    def _end(self, pod: Pod) -> None:
        if pod.native_id and not pod.ended:
            self.facility.cancel(pod.native_id)

    # -- following the facility ------------------------------------------------------------------------------

    def follow(self) -> None:
        """Bring Jobs and pods up to what has happened. Raises SiteUnreachable where the facility is down."""
        now = self.facility.now()
        views = {view.native_id: view for view in self.facility.accounting()}
        for job in list(self.jobs.values()):
            if job.over is not None:
                self._expire(job, now)
                continue
            for pod in job.pods:
                found = views.get(pod.native_id)
                if found is not None and found.order.name == job.name:
                    pod.view = found
            self._judge(job, now)
            self._tell(job, now)

    def _expire(self, job: Job, now: int) -> None:
        ttl = job.body["spec"].get("ttlSecondsAfterFinished")
        if ttl is not None and job.over_at is not None and now >= job.over_at + ttl * 1_000_000:
            self.remove(job)

    def _judge(self, job: Job, now: int) -> None:
        """Has its pod ended, or its time?"""
        last = job.pods[-1] if job.pods else None
        limit = job.body["spec"].get("activeDeadlineSeconds")
        if limit is not None and job.begun_at is not None and now >= job.begun_at + limit * 1_000_000 and not job.late:
            job.late = True
            if last is not None:
                self._end(last)
        if job.late and _gone(last):
            self._over(job, now, "Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
            return
        if last is None or last.ended or last.view is None or not last.view.state.final:
            return
        last.ended = True
        if last.view.state is JobState.SUCCEEDED:
            self._over(job, now, "Complete", "CompletionsReached", "Reached expected number of succeeded pods")
        else:
            last.message = self.log(last, tail=_TOLD).decode("utf-8", "replace")
            self._failed(job, last, now)

    def log(self, pod: Pod, *, tail: int = 0) -> bytes:
        """What its container has written; `tail`: only so many bytes from the end."""
        try:
            return self.facility.files.read(pod.place.log, offset=-tail if tail else 0, limit=tail or None)
        except NotThere:
            return b""

    def _failed(self, job: Job, pod: Pod, now: int) -> None:
        action, message = _policy(job, pod)
        if action == "FailJob":
            self._over(job, now, "Failed", "PodFailurePolicy", message)
            return
        job.failed += action != "Ignore"
        if job.failed > job.body["spec"]["backoffLimit"]:
            self._over(job, now, "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        else:
            self._start(job, now)

    def _over(self, job: Job, now: int, kind: str, reason: str, message: str) -> None:
        job.over, job.over_at = (kind, reason, message), now
        for pod in job.pods:
            pod.ended = True

    # -- telling -----------------------------------------------------------------------------------------------

    def _tell(self, job: Job, now: int) -> None:
        """Make the documents anew; where they differ from the last ones, that is an event."""
        for pod in job.pods:
            document = pod_document(job, pod)
            if _plain(document) != _plain(pod.told):
                kind = "MODIFIED" if pod.told else "ADDED"
                pod.told = document
                pod.version = self._event(kind, "Pod", document)
        document = job_document(job, now)
        if _plain(document) != _plain(job.told):
            kind = "MODIFIED" if job.told else "ADDED"
            job.told = document
            job.version = self._event(kind, "Job", document)

    def _event(self, what: str, kind: str, document: dict[str, Any]) -> int:
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self.events.append((self.version, what, kind, copy.deepcopy(document)))
        return self.version

    def pods(self) -> Iterator[Pod]:
        for job in self.jobs.values():
            yield from job.pods

    def pod(self, namespace: str, name: str) -> Pod | None:
        found = (pod for pod in self.pods() if (pod.place.namespace, pod.place.name) == (namespace, name))
        return next(found, None)


def _gone(pod: Pod | None) -> bool:
    """Is nothing left of it, and did it not end well in the last moment?"""
    if pod is None or not pod.native_id:
        return True
    return pod.view is not None and pod.view.state.final and pod.view.state is not JobState.SUCCEEDED


def _plain(document: Mapping[str, Any]) -> dict[str, Any]:
    meta = {name: value for name, value in document.get("metadata", {}).items() if name != "resourceVersion"}
    return {**document, "metadata": meta}


def _default(body: dict[str, Any]) -> None:
    """What the API fills in."""
    meta, spec = body["metadata"], body["spec"]
    ours = {
        "batch.kubernetes.io/controller-uid": meta["uid"],
        "batch.kubernetes.io/job-name": meta["name"],
        "controller-uid": meta["uid"],
        "job-name": meta["name"],
    }
    template = spec["template"].setdefault("metadata", {})
    template["labels"] = {**(template.get("labels") or {}), **ours}
    meta["labels"] = {**ours, **(meta.get("labels") or {})}
    spec.setdefault("parallelism", 1)
    spec.setdefault("completions", 1)
    spec.setdefault("backoffLimit", 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    spec.setdefault("selector", {"matchLabels": {"batch.kubernetes.io/controller-uid": meta["uid"]}})
    pod = spec["template"]["spec"]
    pod.setdefault("terminationGracePeriodSeconds", 30)
    pod.setdefault("dnsPolicy", "ClusterFirst")
    pod.setdefault("securityContext", {})
    pod.setdefault("schedulerName", "default-scheduler")


def _policy(job: Job, pod: Pod) -> tuple[str, str]:
    """What the Job's rules say to this failure: an action, and in which words."""
    container, code = pod_name_of(job), exit_code(pod)
    disrupted = pod.view is not None and pod.view.state in _DISRUPTIONS
    whole = f"{pod.place.namespace}/{pod.place.name}"
    for index, rule in enumerate((job.body["spec"].get("podFailurePolicy") or {}).get("rules") or ()):
        conditions = [one.get("type") for one in rule.get("onPodConditions") or ()]
        if disrupted and "DisruptionTarget" in conditions:
            said = f"Pod {whole} has condition DisruptionTarget matching {rule['action']} rule at index {index}"
            return rule["action"], said
        asked = rule.get("onExitCodes")
        if asked and code and not (disrupted and code == 0):
            among = code in asked.get("values", ())
            if among is (asked.get("operator") == "In"):
                said = (
                    f"Container {container} for pod {whole} failed with exit code {code} matching {rule['action']} rule"
                )
                return rule["action"], f"{said} at index {index}"
    return "Count", ""


def pod_name_of(job: Job) -> str:
    return str(job.body["spec"]["template"]["spec"]["containers"][-1]["name"])


def exit_code(pod: Pod) -> int:
    """As a container tells it: a signal is 128 and its number."""
    view = pod.view
    if view is None:
        return 0
    if view.state is JobState.OUT_OF_MEMORY:
        return 137
    if view.signal:
        return 128 + view.signal
    if view.state in {JobState.TIMED_OUT, JobState.CANCELED, JobState.PREEMPTED} and not view.exit_code:
        return 143
    return view.exit_code or (0 if view.state in {JobState.SUCCEEDED, JobState.NODE_FAILED} else 1)


# -- documents -----------------------------------------------------------------------------------------------


def job_document(job: Job, now: int) -> dict[str, Any]:  # noqa: ARG001 - the same at every time
    document = copy.deepcopy(job.body)
    document["metadata"]["resourceVersion"] = str(job.version)
    document["status"] = _job_status(job)
    return document


def _job_status(job: Job) -> dict[str, Any]:
    status: dict[str, Any] = {}
    if job.begun_at is not None:
        status["startTime"] = moment(job.begun_at)
    if job.over is not None:
        kind, reason, message = job.over
        first = "SuccessCriteriaMet" if kind == "Complete" else "FailureTarget"
        at = moment(job.over_at)
        status["conditions"] = [_condition(one, reason, message, at) for one in (first, kind)]
        status.update({"terminating": 0, "ready": 0, "uncountedTerminatedPods": {}})
        if kind == "Complete":
            status.update(succeeded=1, completionTime=at)
        else:
            status["failed"] = max(1, len(job.pods))
        return status
    if job.suspended:
        at = moment(job.made_at)
        status["conditions"] = [_condition("Suspended", "JobSuspended", "Job suspended", at)]
        return status
    last = job.pods[-1] if job.pods else None
    running = last is not None and last.view is not None and last.view.state is JobState.RUNNING
    status.update(active=int(last is not None), ready=int(running), terminating=0, uncountedTerminatedPods={})
    if job.failed:
        status["failed"] = job.failed
    return status


def _condition(kind: str, reason: str, message: str, at: str | None) -> dict[str, Any]:
    told = {"type": kind, "status": "True", "lastProbeTime": at, "lastTransitionTime": at}
    return {**told, "reason": reason, "message": message}


def pod_document(job: Job, pod: Pod) -> dict[str, Any]:
    template = job.body["spec"]["template"]
    spec = copy.deepcopy(template["spec"])
    view = pod.view
    if view is not None and view.nodes:
        spec["nodeName"] = view.nodes[0]
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": job.name,
        "uid": job.body["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    meta = {
        "name": pod.place.name,
        "generateName": f"{job.name}-",
        "namespace": pod.place.namespace,
        "uid": pod.place.uid,
        "resourceVersion": str(pod.version),
        "creationTimestamp": moment(pod.made_at),
        "labels": dict(template["metadata"]["labels"]),
        "annotations": dict(template["metadata"].get("annotations") or {}),
        "ownerReferences": [owner],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": _pod_status(job, pod)}


def _pod_status(job: Job, pod: Pod) -> dict[str, Any]:
    view, made = pod.view, moment(pod.made_at)
    container = job.body["spec"]["template"]["spec"]["containers"][-1]
    reason, message = pod.trouble
    scheduled: dict[str, Any] = {
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": made,
    }
    if reason == "Unschedulable" or (not reason and (view is None or view.state in {JobState.QUEUED, JobState.HELD})):
        told = message or f"0/4 nodes are available: {view.reason if view else 'Insufficient cpu'}."
        scheduled.update(status="False", reason="Unschedulable", message=told)
        return {"phase": "Pending", "conditions": [scheduled], "qosClass": "Burstable"}
    status: dict[str, Any] = {"phase": "Pending", "conditions": [scheduled], "qosClass": "Burstable", "startTime": made}
    if reason:
        state: dict[str, Any] = {"waiting": {"reason": reason, "message": message}}
    elif view is not None and view.state is JobState.RUNNING:
        status["phase"] = "Running"
        status["conditions"].append(
            {"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": made}
        )
        state = {"running": {"startedAt": moment(view.started_at)}}
    elif view is not None and view.state.final:
        status["phase"] = "Succeeded" if view.state is JobState.SUCCEEDED else "Failed"
        state = {"terminated": _terminated(view, pod)}
        if view.state in _DISRUPTIONS:
            why, words = _DISRUPTIONS[view.state]
            status["conditions"].append(
                {**_condition("DisruptionTarget", why, words, moment(view.ended_at)), "lastProbeTime": None}
            )
        elif view.state is JobState.TIMED_OUT:
            status.update(
                reason="DeadlineExceeded", message="Pod was active on the node longer than the specified deadline"
            )
    else:
        status.update(phase="Unknown", reason="NodeLost", message=view.word if view else "")
        state = {}
    status["containerStatuses"] = [
        {
            "name": container["name"],
            "image": container.get("image", ""),
            "imageID": "",
            "ready": "running" in state,
            "started": "running" in state,
            "restartCount": 0,
            "state": state,
            "lastState": {},
        }
    ]
    return status


def _terminated(view: JobView, pod: Pod) -> dict[str, Any]:
    code = exit_code(pod)
    reason = "Completed" if code == 0 else "Error"
    if view.state is JobState.OUT_OF_MEMORY:
        reason = "OOMKilled"
    words = {"message": pod.message} if pod.message else {}
    at = {**words, "startedAt": moment(view.started_at), "finishedAt": moment(view.ended_at)}
    return {"exitCode": code, "reason": reason, **at, "containerID": f"sandbox://{view.native_id}"}
