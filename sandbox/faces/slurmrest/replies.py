"""Replies that are not all as they should be: errors by Slurm's numbers, and lists with nothing in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.faces.http import Response
from sandbox.faces.slurmrest.form import Form, RestError

REFUSALS = {
    "queue": (2000, "Invalid partition name specified"),
    "nodes": (2014, "Requested node configuration is not available"),
    "account": (2045, "Invalid account or account/partition combination specified"),
    "limit": (2050, "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"),
    "time": (2051, "Requested time limit is invalid (missing or exceeds some limit)"),
    "reservation": (2053, "Requested reservation is invalid"),
    "qos": (2066, "Invalid qos specification"),
    "script": (2009, "Job script not specified"),
}
LATER = {
    "PartitionTimeLimit": (2015, "Requested partition configuration not available now"),
    "PartitionNodeLimit": (2015, "Requested partition configuration not available now"),
    "PartitionConfig": (2015, "Requested partition configuration not available now"),
    "JobHeldUser": (2042, "Job is in held state, pending scheduler release"),
}
"""Said beside a job's number, where the job is taken and will not start."""


def unspecified(description: str, source: str) -> RestError:
    return RestError(500, -1, "Unspecified error", description=description, source=source)


def unknown_job(description: str, source: str) -> RestError:
    return RestError(500, 2017, "Invalid job id specified", description=description, source=source)


def spoilt_by(params: Mapping[str, Any]) -> RestError:
    text = str(params.get("text", "Unspecified error"))
    return RestError(200, -1, text, source="slurm")


def empty(what: str, form: Form) -> Mapping[str, Any]:
    """The list that belongs to a reply, with nothing in it."""
    name = what.strip("/").partition("/")[0]
    name = {"job": "jobs", "node": "nodes", "partition": "partitions", "reservation": "reservations"}.get(name, name)
    match name:
        case "jobs":
            return {"jobs": [], **backfilled(form, 0)}
        case "nodes" | "partitions" | "reservations":
            return {name: [], **updated(form, 0)}
        case "ping":
            return {} if form.plain else {"pings": []}
        case _:
            return {}


def updated(form: Form, now: int) -> Mapping[str, Any]:
    return {} if form.plain else {"last_update": form.time(now)}


def backfilled(form: Form, now: int) -> Mapping[str, Any]:
    return {} if form.plain else {"last_backfill": form.time(now), "last_update": form.time(now)}


def plain_text(status: int, body: bytes) -> Response:
    return Response(status=status, headers={"content-type": "text/plain"}, body=body + b"\n")
