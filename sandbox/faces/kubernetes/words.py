"""The API's manners that have nothing to do with jobs: statuses, selectors, patches, discovery."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

VERSION = {
    "major": "1",
    "minor": "33",
    "gitVersion": "v1.33.1",
    "gitCommit": "0000000000000000000000000000000000000000",
    "gitTreeState": "clean",
    "buildDate": "2025-05-15T08:19:08Z",
    "goVersion": "go1.24.2",
    "compiler": "gc",
    "platform": "linux/amd64",
}
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    503: "ServiceUnavailable",
}
NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")


class Refuse(Exception):
    """An answer that is a failure, as the API tells one."""

    def __init__(self, code: int, message: str, *, reason: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.document = status(code, message, reason=reason or _REASONS.get(code, "InternalError"), details=details)


def status(code: int, message: str, *, reason: str, details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A `Status` that says failure."""
    told = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    return {**told, "reason": reason, **({"details": dict(details)} if details else {}), "code": code}


def done(name: str, kind: str, uid: str) -> dict[str, Any]:
    """A `Status` that says success."""
    details = {"name": name, "kind": kind, "uid": uid}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def missing(kind: str, name: str, group: str = "") -> Refuse:
    whole = f"{kind}.{group}" if group else kind
    details = {"name": name, "group": group, "kind": kind} if group else {"name": name, "kind": kind}
    return Refuse(404, f'{whole} "{name}" not found', details=details)


def moment(at: int | None) -> str | None:
    """µs as the API writes times: whole seconds."""
    return None if at is None else datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- selectors -----------------------------------------------------------------------------------------------

_SET = re.compile(r"([\w./-]+)\s+(in|notin)\s+\(([^)]*)\)")
_EQUAL = re.compile(r"([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)")
_PLAIN = re.compile(r"(!?)([\w./-]+)")


def selector(text: str) -> Callable[[Mapping[str, str]], bool]:
    """Which labels a `labelSelector` means. Raises Refuse."""
    tests: list[Callable[[Mapping[str, str]], bool]] = []
    for part in filter(None, (one.strip() for one in re.split(r",(?![^(]*\))", text))):
        if found := _SET.fullmatch(part):
            name, among = found[1], {one.strip() for one in found[3].split(",")}
            tests.append(_among(name, among, wanted=found[2] == "in"))
        elif found := _EQUAL.fullmatch(part):
            tests.append(_among(found[1], {found[3]}, wanted=found[2] != "!="))
        elif found := _PLAIN.fullmatch(part):
            tests.append(_exists(found[2], wanted=not found[1]))
        else:
            raise Refuse(400, f"unable to parse requirement: {part}")
    return lambda labels: all(test(labels) for test in tests)


def _among(name: str, values: set[str], *, wanted: bool) -> Callable[[Mapping[str, str]], bool]:
    return lambda labels: (labels.get(name) in values) is wanted


def _exists(name: str, *, wanted: bool) -> Callable[[Mapping[str, str]], bool]:
    return lambda labels: (name in labels) is wanted


def fields(text: str) -> Callable[[Mapping[str, Any]], bool]:
    """Which objects a `fieldSelector` means. Raises Refuse."""
    tests: list[tuple[str, str, bool]] = []
    for part in filter(None, text.split(",")):
        found = re.fullmatch(r"([\w.]+)(==|=|!=)(.*)", part)
        if not found or found[1] not in {"metadata.name", "metadata.namespace", "status.phase", "spec.nodeName"}:
            raise Refuse(400, f"field label not supported: {part}")
        tests.append((found[1], found[3], found[2] != "!="))

    def matches(item: Mapping[str, Any]) -> bool:
        for path, value, wanted in tests:
            outer, _, inner = path.partition(".")
            if (item.get(outer, {}).get(inner, "") == value) is not wanted:
                return False
        return True

    return matches


# -- patches -------------------------------------------------------------------------------------------------


def patched(before: Mapping[str, Any], change: Any, kind: str) -> dict[str, Any]:
    """The object after a patch of that content type. Raises Refuse."""
    if kind == "application/json-patch+json":
        return _operations(before, change)
    if not isinstance(change, dict) or not kind.endswith("merge-patch+json"):
        raise Refuse(415 if isinstance(change, dict) else 400, "the body of the request was in an unknown format")
    merged = _merged(before, change)
    assert isinstance(merged, dict)  # noqa: S101 - both were
    return merged


def _merged(before: Any, change: Any) -> Any:
    if not isinstance(change, dict):
        return change
    result = dict(before) if isinstance(before, dict) else {}
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


def _operations(before: Mapping[str, Any], changes: Any) -> dict[str, Any]:
    result: dict[str, Any] = copy.deepcopy(dict(before))
    if not isinstance(changes, list):
        raise Refuse(400, "a JSON patch is a list")
    for change in changes:
        try:
            *way, last = [part.replace("~1", "/").replace("~0", "~") for part in change["path"].split("/")[1:]]
            at: Any = result
            for part in way:
                at = at[int(part)] if isinstance(at, list) else at[part]
            operation = change["op"]
            if operation == "test" and at.get(last) != change["value"]:
                raise Refuse(422, "the server rejected our request due to an error in our request")
            if operation == "remove":
                del at[last]
            elif operation in {"add", "replace"}:
                at[last] = change["value"]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise Refuse(422, "the server rejected our request due to an error in our request") from error
    return result


# -- discovery -----------------------------------------------------------------------------------------------


def _resource(
    name: str, kind: str, singular: str, short: Sequence[str] = (), *, namespaced: bool = True
) -> dict[str, Any]:
    told = {"name": name, "singularName": singular, "namespaced": namespaced, "kind": kind, "verbs": _VERBS}
    return {**told, **({"shortNames": list(short)} if short else {})}


CORE = {
    "kind": "APIResourceList",
    "groupVersion": "v1",
    "resources": [
        _resource("namespaces", "Namespace", "namespace", ["ns"], namespaced=False),
        _resource("pods", "Pod", "pod", ["po"]),
        {"name": "pods/log", "singularName": "", "namespaced": True, "kind": "Pod", "verbs": ["get"]},
        {"name": "pods/status", "singularName": "", "namespaced": True, "kind": "Pod", "verbs": ["get"]},
        _resource("events", "Event", "event", ["ev"]),
        _resource("resourcequotas", "ResourceQuota", "resourcequota", ["quota"]),
    ],
}
BATCH = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": "batch/v1",
    "resources": [
        {**_resource("jobs", "Job", "job"), "categories": ["all"]},
        {"name": "jobs/status", "singularName": "", "namespaced": True, "kind": "Job", "verbs": ["get"]},
    ],
}
_BATCH_GROUP = {
    "name": "batch",
    "versions": [{"groupVersion": "batch/v1", "version": "v1"}],
    "preferredVersion": {"groupVersion": "batch/v1", "version": "v1"},
}
_REVIEW = {"groupVersion": "authorization.k8s.io/v1", "version": "v1"}
DISCOVERY: Mapping[str, Any] = {
    "/version": VERSION,
    "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
    "/api/v1": CORE,
    "/apis": {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [
            _BATCH_GROUP,
            {"name": "authorization.k8s.io", "versions": [_REVIEW], "preferredVersion": _REVIEW},
        ],
    },
    "/apis/batch": {"kind": "APIGroup", "apiVersion": "v1", **_BATCH_GROUP},
    "/apis/batch/v1": BATCH,
    "/apis/authorization.k8s.io/v1": {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": "authorization.k8s.io/v1",
        "resources": [
            {
                "name": "selfsubjectaccessreviews",
                "singularName": "selfsubjectaccessreview",
                "namespaced": False,
                "kind": "SelfSubjectAccessReview",
                "verbs": ["create"],
            }
        ],
    },
}
EMPTY_LISTS = {
    "events": "EventList",
    "resourcequotas": "ResourceQuotaList",
    "limitranges": "LimitRangeList",
    "configmaps": "ConfigMapList",
}
"""What there could be, and never is."""
