"""The API's routes: discovery; Jobs created, read, listed, watched, patched, deleted; pods and their logs.

Faults that only this face knows: `watch_gone` (a watch is told 410), `image_pull`, `unschedulable` (for a Job's next
pod), `conflict` (409 that is not about the name).
"""

from __future__ import annotations

import base64
import copy
import json
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from sandbox.faces.http import Request, Response, answer
from sandbox.faces.kubernetes.cluster import Cluster, Job
from sandbox.faces.kubernetes.pods import Secrets
from sandbox.faces.kubernetes.words import (
    DISCOVERY,
    EMPTY_LISTS,
    NAME,
    Refuse,
    done,
    fields,
    missing,
    patched,
    selector,
    status,
)
from sandbox.facility import Facility

_STEP = 0.1
_LONGEST_WATCH = 300.0
_BOOKMARK_BEFORE = 2.0
_FIXED = (
    "template",
    "selector",
    "completions",
    "completionMode",
    "podFailurePolicy",
    "backoffLimitPerIndex",
    "managedBy",
)
"""Of a Job's specification; the template of one that is suspended may have other node selectors, and the like."""


class KubernetesFace:
    """`tokens`: bearer tokens that are taken; none: everybody is. `secrets`: by namespace and name."""

    def __init__(
        self,
        facility: Facility,
        *,
        tokens: Collection[str] = (),
        secrets: Mapping[str, Secrets] | None = None,
        namespaces: Collection[str] = ("default",),
        simulated: bool = False,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.cluster = Cluster(facility, secrets=secrets or {}, simulated=simulated)
        self._facility, self._tokens, self._namespaces = facility, frozenset(tokens), tuple(namespaces)
        self._simulated, self._sleep = simulated, sleep
        self._lock = threading.RLock()

    def handle(self, request: Request) -> Response:
        try:
            if request.path in {"/healthz", "/livez", "/readyz"}:
                return Response(headers={"content-type": "text/plain"}, body=b"ok")
            if self._tokens and request.bearer not in self._tokens:
                raise Refuse(401, "Unauthorized")
            if request.path in DISCOVERY and request.method == "GET":
                return answer(DISCOVERY[request.path])
            return self._route(request)
        except Refuse as refused:
            return answer(refused.document, refused.code)

    def accepted(self) -> Mapping[str, int]:
        """How many Jobs were created, by name."""
        with self._lock:
            return dict(self.cluster.accepted)

    def _route(self, request: Request) -> Response:
        match request.path.strip("/").split("/"):
            case ["apis", "batch", "v1", "jobs"]:
                return self._all_jobs(request, "")
            case ["apis", "batch", "v1", "namespaces", space, "jobs"]:
                return self._all_jobs(request, self._space(space))
            case ["apis", "batch", "v1", "namespaces", space, "jobs", name]:
                return self._one_job(request, self._space(space), name)
            case ["apis", "batch", "v1", "namespaces", space, "jobs", name, "status"] if request.method == "GET":
                return self._one_job(request, self._space(space), name)
            case ["api", "v1", "pods"]:
                return self._all_pods(request, "")
            case ["api", "v1", "namespaces", space, "pods"]:
                return self._all_pods(request, self._space(space))
            case ["api", "v1", "namespaces", space, "pods", name, *rest] if rest in ([], ["status"]):
                return self._one_pod(request, self._space(space), name)
            case ["api", "v1", "namespaces", space, "pods", name, "log"] if request.method == "GET":
                return self._log(request, self._space(space), name)
            case ["api", "v1", "namespaces"] if request.method == "GET":
                return self._listed(request, "NamespaceList", "v1", [_namespace(name) for name in self._namespaces])
            case ["api", "v1", "namespaces", space] if request.method == "GET":
                return answer(_namespace(self._space(space)))
            case ["api", "v1", "namespaces", space, kind] if kind in EMPTY_LISTS and request.method == "GET":
                self._space(space)
                return self._listed(request, EMPTY_LISTS[kind], "v1", [])
            case ["api", "v1", "namespaces", _, "secrets", *_]:
                raise Refuse(403, 'secrets is forbidden: User "sandbox" cannot get resource "secrets" in API group ""')
            case ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"] if request.method == "POST":
                return answer({**_json(request), "status": {"allowed": True}}, 201)
        raise Refuse(404, "the server could not find the requested resource")

    def _space(self, name: str) -> str:
        if name not in self._namespaces:
            raise missing("namespaces", name)
        return name

    # -- Jobs ----------------------------------------------------------------------------------------------

    def _all_jobs(self, request: Request, space: str) -> Response:
        if request.method == "POST" and space:
            return self._create(request, space)
        if request.method == "DELETE" and space:
            return self._delete_all(request, space)
        if request.method != "GET":
            raise Refuse(405, "the server does not allow this method on the requested resource")
        if _watches(request):
            return self._watch(request, "Job", space)
        return self._listed(request, "JobList", "batch/v1", *self._documents("Job", space))

    def _create(self, request: Request, space: str) -> Response:
        body = _checked(_json(request), space)
        name = body["metadata"].get("name", "")
        with self._lock, self._facility.held_still():
            self.cluster.follow()
            if not name:
                name = f"{body['metadata'].get('generateName', '')}{self.cluster.version:05d}"
                body["metadata"]["name"] = name
            if not NAME.fullmatch(name) or len(name) > 63:
                raise _invalid(name, "metadata.name: Invalid value")
            if (space, name) in self.cluster.jobs:
                details = {"name": name, "group": "batch", "kind": "jobs"}
                raise Refuse(409, f'jobs.batch "{name}" already exists', reason="AlreadyExists", details=details)
            if self._facility.faults.take("conflict", request, job=name) is not None:
                raise Refuse(409, "Operation cannot be fulfilled on resourcequotas: the object has been modified")
            if request.first("dryRun") == "All":
                return answer(body, 201)
            return answer(self.cluster.create(body).told, 201)

    def _one_job(self, request: Request, space: str, name: str) -> Response:
        with self._lock, self._facility.held_still():
            self.cluster.follow()
            job = self.cluster.jobs.get((space, name))
            if job is None:
                raise missing("jobs", name, "batch")
            match request.method:
                case "GET":
                    return answer(job.told)
                case "DELETE":
                    return self._delete(request, job)
                case "PATCH":
                    kind = request.headers.get("content-type", "").partition(";")[0].strip()
                    return self._change(request, job, patched(job.told, _any_json(request), kind))
                case "PUT":
                    return self._change(request, job, _json(request))
        raise Refuse(405, "the server does not allow this method on the requested resource")

    def _change(self, request: Request, job: Job, wanted: dict[str, Any]) -> Response:
        meta = wanted.get("metadata")
        if not isinstance(meta, dict) or not isinstance(wanted.get("spec"), dict):
            raise Refuse(400, "the object provided is no Job")
        if meta.get("resourceVersion", str(job.version)) != str(job.version):
            raise _conflict(job, "the object has been modified; please apply your changes to the latest version")
        before = job.body["spec"]
        for name in _FIXED:
            if wanted["spec"].get(name) != before.get(name) and not (name == "template" and job.suspended):
                raise _invalid(job.name, f"spec.{name}: Invalid value: field is immutable")
        if wanted["spec"].get("suspend") not in {True, False, None}:
            raise Refuse(400, "suspend: expected a boolean")
        if request.first("dryRun") == "All":
            return answer(wanted)
        kept = {"name": job.name, "namespace": job.namespace, "uid": job.body["metadata"]["uid"]}
        body = {**job.body, "metadata": {**meta, **kept}, "spec": copy.deepcopy(wanted["spec"])}
        body["metadata"]["generation"] = job.body["metadata"]["generation"] + (body["spec"] != before)
        body["metadata"].pop("resourceVersion", None)
        self.cluster.changed(job, body)
        return answer(job.told)

    def _delete(self, request: Request, job: Job) -> Response:
        options = _json(request) if request.body.strip() else {}
        wanted = options.get("preconditions") or {}
        if wanted.get("uid", job.body["metadata"]["uid"]) != job.body["metadata"]["uid"]:
            raise _conflict(job, "Precondition failed: UID in precondition does not match")
        if wanted.get("resourceVersion", str(job.version)) != str(job.version):
            raise _conflict(job, "Precondition failed: ResourceVersion in precondition does not match")
        self.cluster.remove(job)
        return answer(done(job.name, "jobs", job.body["metadata"]["uid"]))

    def _delete_all(self, request: Request, space: str) -> Response:
        with self._lock, self._facility.held_still():
            self.cluster.follow()
            chosen = _chosen(request)
            gone = [job for job in self.cluster.jobs.values() if job.namespace == space and chosen(job.told)]
            for job in gone:
                self.cluster.remove(job)
            return self._listed(request, "JobList", "batch/v1", [job.told for job in gone])

    # -- pods ----------------------------------------------------------------------------------------------

    def _all_pods(self, request: Request, space: str) -> Response:
        if request.method != "GET":
            raise Refuse(405, "pods are made by Jobs here")
        if _watches(request):
            return self._watch(request, "Pod", space)
        return self._listed(request, "PodList", "v1", *self._documents("Pod", space))

    def _one_pod(self, request: Request, space: str, name: str) -> Response:
        with self._lock, self._facility.held_still():
            self.cluster.follow()
            pod = self.cluster.pod(space, name)
            if pod is None:
                raise missing("pods", name)
            if request.method == "DELETE":
                if pod.native_id and not pod.ended:
                    self._facility.cancel(pod.native_id)
                return answer(pod.told)
            if request.method != "GET":
                raise Refuse(405, "the server does not allow this method on the requested resource")
            return answer(pod.told)

    def _log(self, request: Request, space: str, name: str) -> Response:
        with self._lock:
            self.cluster.follow()
            pod = self.cluster.pod(space, name)
            if pod is None:
                raise missing("pods", name)
            if pod.view is None or pod.view.started_at is None:
                reason = pod.trouble[0] or "ContainerCreating"
                raise Refuse(400, f'container in pod "{name}" is waiting to start: {reason}')
            content = self.cluster.log(pod)
        lines = request.first("tailLines")
        if lines.isdecimal():
            kept = content.splitlines(keepends=True)
            content = b"".join(kept[len(kept) - min(int(lines), len(kept)) :])
        most = request.first("limitBytes")
        return Response(
            headers={"content-type": "text/plain"}, body=content[: int(most)] if most.isdecimal() else content
        )

    # -- lists and watches ---------------------------------------------------------------------------------

    def _documents(self, kind: str, space: str) -> tuple[list[dict[str, Any]], int]:
        """All of a kind, and as of which version: a watch from there misses nothing."""
        with self._lock, self._facility.held_still():
            self.cluster.follow()
            held = (
                [job.told for job in self.cluster.jobs.values()]
                if kind == "Job"
                else [pod.told for pod in self.cluster.pods()]
            )
            found = [copy.deepcopy(item) for item in held if space in {"", item["metadata"]["namespace"]}]
            return found, self.cluster.version

    def _listed(
        self, request: Request, kind: str, version: str, items: list[dict[str, Any]], as_of: int | None = None
    ) -> Response:
        chosen = _chosen(request)
        found = [item for item in items if chosen(item)]
        meta: dict[str, Any] = {"resourceVersion": str(self.cluster.version if as_of is None else as_of)}
        limit, token = request.first("limit"), request.first("continue")
        start = _start_of(token)
        if limit.isdecimal() and int(limit) and start + int(limit) < len(found):
            end = start + int(limit)
            meta["continue"] = base64.urlsafe_b64encode(json.dumps({"start": end}).encode()).decode()
            meta["remainingItemCount"] = len(found) - end
            found = found[start:end]
        else:
            found = found[start:]
        return answer({"kind": kind, "apiVersion": version, "metadata": meta, "items": found})

    def _watch(self, request: Request, kind: str, space: str) -> Response:
        chosen, version = _chosen(request), request.first("resourceVersion")
        if version and not version.isdecimal():
            raise Refuse(400, f"invalid resource version {version!r}")
        told = request.first("timeoutSeconds")
        seconds = min(float(told), _LONGEST_WATCH) if told.isdecimal() and int(told) else _LONGEST_WATCH
        gone = self._facility.faults.take("watch_gone", request) is not None
        with self._lock:
            oldest = self.cluster.events[0][0] if self.cluster.events else self.cluster.version
            full = len(self.cluster.events) == self.cluster.events.maxlen
        first = 0 if version in {"", "0"} else int(version)
        if gone or (first and full and first < oldest - 1) or first > self.cluster.version:
            expired = status(410, f"too old resource version: {version} ({oldest})", reason="Expired")
            return _stream(iter([_line("ERROR", expired)]))
        items, start = self._documents(kind, space) if not first else ([], first)
        events = self._followed(kind, space, start, seconds)
        # a real one sends it two seconds before the end, if there are as many
        bookmarks = request.first("allowWatchBookmarks") in {"1", "true"} and seconds > _BOOKMARK_BEFORE
        return _stream(self._lines(items, events, chosen, kind, bookmarks=bookmarks))

    def _lines(
        self,
        items: list[dict[str, Any]],
        events: Iterator[tuple[str, dict[str, Any]]],
        chosen: Callable[[Mapping[str, Any]], bool],
        kind: str,
        *,
        bookmarks: bool,
    ) -> Iterator[bytes]:
        for item in items:
            if chosen(item):
                yield _line("ADDED", item)
        for what, document in events:
            if not what:
                yield b""
            elif what == "BOOKMARK":
                if bookmarks:
                    group = "batch/v1" if kind == "Job" else "v1"
                    yield _line(what, {"kind": kind, "apiVersion": group, **document})
            elif chosen(document):
                yield _line(what, document)

    def _followed(self, kind: str, space: str, version: int, seconds: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """What happens behind that version, until the time is over; at last a bookmark. An empty word: nothing did for
        a while."""
        end = time.monotonic() + seconds
        while True:
            with self._lock, self._facility.held_still():
                self.cluster.follow()
                new = [event for event in self.cluster.events if event[0] > version]
                version = max(version, self.cluster.version)
            for _, what, which, document in new:
                if which == kind and space in {"", document["metadata"]["namespace"]}:
                    yield what, document
            if self._simulated or time.monotonic() >= end:
                yield "BOOKMARK", {"metadata": {"resourceVersion": str(version), "creationTimestamp": None}}
                return
            yield "", {}
            self._sleep(_STEP)


def _checked(body: dict[str, Any], space: str) -> dict[str, Any]:
    """A Job as it may be created. Raises Refuse."""
    meta, spec = body.get("metadata"), body.get("spec")
    if body.get("kind", "Job") != "Job" or body.get("apiVersion", "batch/v1") != "batch/v1":
        raise Refuse(400, f"the object provided is unrecognized: {body.get('kind')!r}"[:200])
    if not isinstance(meta, dict) or not isinstance(spec, dict):
        raise Refuse(400, "Job in version v1 cannot be handled as a Job")
    name = str(meta.get("name") or meta.get("generateName") or "")
    if meta.get("namespace", space) != space:
        raise Refuse(400, "the namespace of the provided object does not match the namespace sent on the request")
    if not name:
        raise _invalid("", "metadata.name: Required value: name or generateName is required")
    pod = (spec.get("template") or {}).get("spec")
    if not isinstance(pod, dict) or not isinstance(pod.get("containers"), list) or not pod["containers"]:
        raise _invalid(name, "spec.template.spec.containers: Required value")
    if pod.get("restartPolicy") not in {"Never", "OnFailure"}:
        raise _invalid(name, 'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"')
    if "podFailurePolicy" in spec and pod["restartPolicy"] != "Never":
        what = 'only "Never" is supported when podFailurePolicy is specified'
        raise _invalid(name, f"spec.template.spec.restartPolicy: Invalid value: {what}")
    for container in [*(pod.get("initContainers") or ()), *pod["containers"]]:
        if not isinstance(container, dict) or not container.get("name") or not container.get("image"):
            raise _invalid(name, "spec.template.spec.containers: Required value: name and image")
    for labels in (meta.get("labels"), (spec["template"].get("metadata") or {}).get("labels")):
        if labels is not None and any(len(str(value)) > 63 for value in labels.values()):
            raise _invalid(name, "metadata.labels: Invalid value: must be no more than 63 characters")
    body = copy.deepcopy(body)
    body.pop("status", None)
    return {**body, "apiVersion": "batch/v1", "kind": "Job", "metadata": {**body["metadata"], "namespace": space}}


def _invalid(name: str, what: str) -> Refuse:
    details = {"name": name, "group": "batch", "kind": "Job", "causes": [{"message": what}]}
    return Refuse(422, f'Job.batch "{name}" is invalid: {what}', details=details)


def _conflict(job: Job, what: str) -> Refuse:
    details = {"name": job.name, "group": "batch", "kind": "jobs"}
    return Refuse(409, f'Operation cannot be fulfilled on jobs.batch "{job.name}": {what}', details=details)


def _chosen(request: Request) -> Callable[[Mapping[str, Any]], bool]:
    by_label, by_field = selector(request.first("labelSelector")), fields(request.first("fieldSelector"))
    return lambda item: by_label(item["metadata"].get("labels") or {}) and by_field(item)


def _start_of(token: str) -> int:
    if not token:
        return 0
    try:
        return int(json.loads(base64.urlsafe_b64decode(token))["start"])
    except (ValueError, KeyError, TypeError) as error:
        raise Refuse(400, "continue key is not valid") from error


def _namespace(name: str) -> dict[str, Any]:
    meta = {
        "name": name,
        "uid": f"namespace-{name}",
        "resourceVersion": "1",
        "creationTimestamp": "2025-01-01T00:00:00Z",
    }
    return {"kind": "Namespace", "apiVersion": "v1", "metadata": meta, "spec": {}, "status": {"phase": "Active"}}


def _any_json(request: Request) -> Any:
    try:
        return request.json()
    except ValueError as error:
        raise Refuse(400, "the request body is no JSON") from error


def _json(request: Request) -> dict[str, Any]:
    found = _any_json(request)
    if not isinstance(found, dict):
        raise Refuse(400, "the request body is no object")
    return found


def _watches(request: Request) -> bool:
    return request.first("watch").lower() in {"1", "true"}


def _line(what: str, document: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": what, "object": document}, separators=(",", ":")).encode() + b"\n"


def _stream(lines: Iterator[bytes]) -> Response:
    return Response(headers={"content-type": "application/json"}, parts=lines)
