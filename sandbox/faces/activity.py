"""ALCF's machine status feed, `/{machine}/activity.json`, over a rehearsal facility. Public."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connectors.model import JobState
from sandbox.faces.http import Request, Response, answer
from sandbox.facility import Facility, JobView, Outage


class ActivityFace:
    """The feed of one machine, written anew with each request unless a fault holds it back."""

    def __init__(self, facility: Facility, *, machine: str = "polaris") -> None:
        self._facility, self._machine = facility, machine

    def handle(self, request: Request) -> Response:
        if request.method != "GET" or request.path != f"/{self._machine}/activity.json":
            return answer({"detail": "Not Found"}, 404)
        now = self._facility.now()
        stale = self._facility.faults.take("stale_feed", request)
        age = round(float(stale.get("age", 3600))) if stale is not None else 0
        jobs = self._facility.jobs(ended_too=False) if self._facility.up("status") else ()
        outage = self._outage(now)
        feed: dict[str, Any] = {
            "dimensions": {},
            "motd_info": [],
            "nodeinfo": {node: {"state": "allocated"} for job in jobs for node in job.nodes},
            "queued": [self._queued(job, now) for job in jobs if job.state in {JobState.QUEUED, JobState.HELD}],
            "reservation": [],
            "running": [self._running(job, now) for job in jobs if job.state is JobState.RUNNING],
            "starting": [],
            "updated": now // 1_000_000 - age,
        }
        if outage is not None:
            feed |= {"maint": True, "start": outage.start // 1_000_000}
            feed |= {"end": outage.end // 1_000_000} if outage.end is not None else {}
        return answer(feed)

    def _outage(self, now: int) -> Outage | None:
        outages: Sequence[Outage] = self._facility.outages()
        return next(
            (
                outage
                for outage in outages
                if outage.resource in {self._machine, "compute"}
                and not outage.degraded
                and outage.start <= now
                and (outage.end is None or now < outage.end)
            ),
            None,
        )

    def _queued(self, job: JobView, now: int) -> dict[str, Any]:
        return {
            **_both(job),
            "state": "hold" if job.state is JobState.HELD else "queued",
            "queuedtimef": _clock((now - job.submitted_at) / 1e6),
            "score": 1.0,
            "starttime": (job.start_expected_at or 0) // 1_000_000,
        }

    def _running(self, job: JobView, now: int) -> dict[str, Any]:
        started = job.started_at or now
        return {
            **_both(job),
            "state": "running",
            "color": "#6080c0",
            "location": list(job.nodes),
            "runtimef": _clock((now - started) / 1e6),
            "starttime": started // 1_000_000,
        }


def _both(job: JobView) -> dict[str, Any]:
    walltime = round(job.order.walltime or 0)
    return {
        "jobid": int(job.native_id) if job.native_id.isdecimal() else job.native_id,
        "mode": "script",
        "nodes": job.order.nodes,
        "project": job.order.account,
        "queue": job.order.queue,
        "submittime": job.submitted_at // 1_000_000,
        "walltime": walltime,
        "walltimef": _clock(walltime),
    }


def _clock(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"
