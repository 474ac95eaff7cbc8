"""From a job's spec to the Job that a cluster is asked for: one pod, started once, that fetches its files by itself."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from connectors.errors import RequestRefused
from connectors.files.bucket import Place
from connectors.files.pod import begin_script, environment
from connectors.kubernetes.options import KubernetesOptions
from connectors.model import JobSpec
from connectors.names import KEY, comment_of

MANAGED = "app.kubernetes.io/managed-by"
OWNER = "crossfade/owner"
KEY_LABEL = "crossfade/key"
COMMENT = "crossfade/comment"
CANCELED = "crossfade/canceled"
QUEUE = "kueue.x-k8s.io/queue-name"
CONTAINER = "payload"

_OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?")
_LABEL = re.compile(r"(?:[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?)?")
_LABEL_NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_IMAGE = re.compile(r"[A-Za-z0-9][\w./:@-]{0,300}")
_GPU = re.compile(r"[a-z0-9.-]+/[A-Za-z0-9._-]+")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
WORDS = ("queue", "priority_class", "service_account", "node_selector", "tolerations", "gpu_resource", "account")


def owner_label(installation: str) -> str:
    """As a label's value: which jobs are this installation's."""
    return installation if _OWNER.fullmatch(installation) else "nobody"


def manifest(
    spec: JobSpec, *, options: KubernetesOptions, place: Place, owner: str, heartbeat: int = 15
) -> dict[str, Any]:
    """The Job. Raises RequestRefused for what no pod can be, UnsafePath."""
    if not KEY.fullmatch(spec.key) or len(spec.key) > 52:
        raise RequestRefused(f"{spec.key[:80]!r} is not a submit key")
    if spec.resources.nodes > 1:
        raise RequestRefused("a Job here is one pod on one node; this stage asks for more nodes")
    words = _words(spec.submit)
    labels = {MANAGED: "crossfade", OWNER: owner_label(owner), KEY_LABEL: spec.key}
    queue = words.get("queue", options.queue)
    job: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": spec.key,
            "namespace": options.namespace,
            "labels": {**labels, **({QUEUE: queue} if queue else {})},
            "annotations": {COMMENT: comment_of(spec, owner)},
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            # never two pods at once on one attempt, not even while the first is being ended
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    # a pod that had to make room: where to go on is the broker's to decide
                    {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    # so that the exit code is told by the Job itself, when the pod is long gone
                    {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}},
                ]
            },
            "ttlSecondsAfterFinished": math.ceil(options.ttl),
            "suspend": bool(queue or options.suspend),
            "template": {
                "metadata": {"labels": labels, "annotations": {COMMENT: comment_of(spec, owner)}},
                "spec": _pod(spec, options=options, place=place, words=words, heartbeat=heartbeat),
            },
        },
    }
    return job


def _pod(
    spec: JobSpec, *, options: KubernetesOptions, place: Place, words: Mapping[str, str], heartbeat: int
) -> dict[str, Any]:
    image = spec.image or options.image
    if not _IMAGE.fullmatch(image):
        raise RequestRefused(
            f"{image[:80]!r} is no container image; name one: software.image of the stage, or image of the site"
        )
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": math.ceil(max(options.grace, spec.warn_before)),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "volumes": [{"name": "work", "emptyDir": {}}],
        "containers": [
            {
                "name": CONTAINER,
                "image": image,
                "command": ["/bin/sh", "-c", begin_script()],
                "workingDir": "/crossfade",
                "env": list(_environment(spec, options=options, place=place, heartbeat=heartbeat)),
                "resources": _resources(spec, words.get("gpu_resource", options.gpu_resource)),
                "volumeMounts": [{"name": "work", "mountPath": "/crossfade"}],
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }
        ],
    }
    if spec.resources.walltime is not None:
        # the pod's own bound, not the Job's: that one would count the time in the queue, too
        pod["activeDeadlineSeconds"] = max(1, math.ceil(spec.resources.walltime + options.margin))
    account = words.get("service_account", options.service_account)
    if account:
        pod["serviceAccountName"] = account
    if "priority_class" in words:
        pod["priorityClassName"] = words["priority_class"]
    selector = {**options.node_selector, **_selector(words.get("node_selector", ""))}
    if selector:
        pod["nodeSelector"] = selector
    tolerations = [dict(item) for item in options.tolerations] + list(_tolerations(words.get("tolerations", "")))
    if tolerations:
        pod["tolerations"] = tolerations
    if options.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in options.image_pull_secrets]
    return pod


def _environment(
    spec: JobSpec, *, options: KubernetesOptions, place: Place, heartbeat: int
) -> Iterator[dict[str, Any]]:
    plain = environment(spec, place=place, endpoint=options.pod_endpoint, heartbeat=heartbeat)
    for name, value in plain.items():
        yield {"name": name, "value": value.replace("$(", "$$(")}  # "$(X)" would be another variable's value
    yield {"name": "CROSSFADE_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    for name, key, optional in (
        ("CROSSFADE_ACCESS_KEY", "access_key", False),
        ("CROSSFADE_SECRET_KEY", "secret_key", False),
        ("CROSSFADE_SESSION_TOKEN", "session_token", True),
    ):
        source = {"name": options.secret, "key": key, **({"optional": True} if optional else {})}
        yield {"name": name, "valueFrom": {"secretKeyRef": source}}


def _resources(spec: JobSpec, gpu: str) -> dict[str, Any]:
    needs = spec.resources
    asked: dict[str, str] = {"cpu": str(max(1, needs.cores))}
    most: dict[str, str] = {}
    if needs.memory:
        asked["memory"] = most["memory"] = str(needs.memory)
    if needs.gpus:
        asked[gpu] = most[gpu] = str(needs.gpus)
    return {"requests": asked, **({"limits": most} if most else {})}


# -- the stage's own words -----------------------------------------------------------------------------------


def _words(submit: Mapping[str, str]) -> Mapping[str, str]:
    forms = {"queue": _NAME, "priority_class": _NAME, "service_account": _NAME, "gpu_resource": _GPU}
    for name, value in submit.items():
        if name not in WORDS:
            raise RequestRefused(f"submit: {name[:80]!r} is not a word for Kubernetes; those are {', '.join(WORDS)}")
        if name in forms and not forms[name].fullmatch(value):
            raise RequestRefused(f"submit: {name}: {value[:80]!r} is no name that Kubernetes takes")
    return submit


def _selector(text: str) -> dict[str, str]:
    """`label=value,label=value`"""
    found = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not _LABEL_NAME.fullmatch(name) or not _LABEL.fullmatch(value):
            raise RequestRefused(f"submit: node_selector: {part[:80]!r} is not LABEL=VALUE")
        found[name] = value
    return found


def _tolerations(text: str) -> Iterator[dict[str, str]]:
    """`key[=value][:Effect],...`, as kubectl writes taints."""
    for part in filter(None, (one.strip() for one in text.split(","))):
        pair, _, effect = part.partition(":")
        name, equals, value = pair.partition("=")
        if not _LABEL_NAME.fullmatch(name) or not _LABEL.fullmatch(value) or (effect and effect not in _EFFECTS):
            raise RequestRefused(f"submit: tolerations: {part[:80]!r} is not KEY[=VALUE][:EFFECT]")
        found = {"key": name, "operator": "Equal", "value": value} if equals else {"key": name, "operator": "Exists"}
        yield {**found, **({"effect": effect} if effect else {})}
