"""Jobs: `/compute`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.model import JobState
from sandbox.faces.http import Request, Response, answer
from sandbox.faces.iri.idempotency import KeyStore
from sandbox.faces.iri.jobspec import check, order_of
from sandbox.faces.iri.problems import Problem, document, flag, known_parameters, whole
from sandbox.faces.iri.profiles import IriProfile
from sandbox.facility import Facility, JobView, OrderRefused

_STATES = {
    JobState.QUEUED: "queued",
    JobState.HELD: "held",
    JobState.RUNNING: "active",
    JobState.SUCCEEDED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELED: "canceled",
    JobState.PREEMPTED: "canceled",
    JobState.TIMED_OUT: "failed",
    JobState.OUT_OF_MEMORY: "failed",
    JobState.NODE_FAILED: "failed",
}
_LIST = ("offset", "limit", "historical", "include_spec")
_ONE = ("historical", "include_spec")


class Compute:
    """The routes of one facility's jobs."""

    def __init__(self, facility: Facility, profile: IriProfile) -> None:
        self._facility, self._profile = facility, profile
        self._keys = KeyStore(facility, keeps=profile.keeps_keys)

    def handle(self, request: Request, words: Sequence[str], user: str) -> Response:
        match request.method, *words:
            case "POST", "job", resource:
                self._machine(resource)
                known_parameters(request, ())
                return self._keys.once(request, user, lambda: self._submit(request, user))
            case "PUT", "job", resource, native_id:
                self._machine(resource)
                known_parameters(request, ())
                return self._keys.once(request, user, lambda: self._alter(request, native_id))
            case "GET", "status", resource, native_id:
                self._machine(resource)
                known_parameters(request, _ONE)
                return self._one(request, native_id)
            case "POST", "status", resource:
                self._machine(resource)
                known_parameters(request, _LIST)
                return self._all(request)
            case "DELETE", "cancel", resource, native_id:
                self._machine(resource)
                known_parameters(request, ())
                return self._cancel(native_id)
            case _:
                raise Problem(404, "Not Found")

    def _machine(self, resource: str) -> None:
        if resource not in {item.id for item in self._profile.resources if item.kind == "compute"}:
            raise Problem(404, f"Resource {resource[:80]} not found")

    # -- asking for jobs ---------------------------------------------------------------------------------------

    def _submit(self, request: Request, user: str) -> Response:
        spec = document(request)
        check(spec, self._profile)
        timeout = self._facility.faults.take("timeout_408", request)
        if timeout is not None and not timeout.get("handled", True):
            raise Problem(408, "GraphQL request timed out")
        try:
            native_id = self._facility.submit(order_of(spec, user=user))
        except OrderRefused as error:
            raise Problem(400, f"{'GraphQL error: ' if not self._profile.tells_words else ''}{error}") from error
        if timeout is not None:
            raise Problem(408, "GraphQL request timed out")
        status = {"state": "new", "time": self._facility.now() / 1e6, "message": "job submitted", "exit_code": 0}
        account = (spec.get("attributes") or {}).get("account")
        if not self._profile.tells_words:
            return answer({"id": native_id, "status": {"state": "new"}})
        return answer({"id": native_id, "status": {**status, "meta_data": {"account": account} if account else {}}})

    def _alter(self, request: Request, native_id: str) -> Response:
        spec = document(request)
        check(spec, self._profile)
        view = self._view(native_id, historical=False)
        if spec != view.order.extra.get("job_spec"):
            raise Problem(400, "a job that was submitted is not altered here")
        return answer(self._record(view, spec=False))

    # -- looking at jobs ---------------------------------------------------------------------------------------

    def _one(self, request: Request, native_id: str) -> Response:
        spec = self._spec_wanted(request)
        return answer(self._record(self._view(native_id, historical=flag(request, "historical", True)), spec=spec))

    def _view(self, native_id: str, *, historical: bool) -> JobView:
        known = self._facility.accounting() if historical else self._facility.jobs(ended_too=False)
        view = next((view for view in reversed(known) if view.native_id == native_id), None)
        if view is None:
            raise Problem(self._profile.unknown_job, f"Job {native_id[:80]} not found")
        return view

    def _all(self, request: Request) -> Response:
        offset, limit = whole(request, "offset", 0), whole(request, "limit", 100, most=1000)
        spec, historical = self._spec_wanted(request), flag(request, "historical")
        filters = document(request) if request.body.strip() not in (b"", b"null") else {}
        if filters and "filters" in self._profile.refuses:
            raise Problem(501, "filters are not supported")
        if not self._profile.lists_jobs:
            raise Problem(504, "the upstream service did not answer in time")
        known = self._facility.accounting() if historical else self._facility.jobs(ended_too=False)
        known = [view for view in known if _fits(self._record(view, spec=True), filters)]
        partial = self._facility.faults.take("partial_listing", request)
        if partial is not None:
            known = known[: max(0, len(known) - int(partial.get("hidden", 1)))]
        return answer([self._record(view, spec=spec) for view in known[offset : offset + limit]])

    def _spec_wanted(self, request: Request) -> bool:
        wanted = flag(request, "include_spec")
        if wanted and "include_spec" in self._profile.refuses:
            raise Problem(501, "include_spec is not supported")
        return wanted

    def _record(self, view: JobView, *, spec: bool) -> dict[str, Any]:
        status: dict[str, Any] = {"state": self._state(view)}
        if view.state.final and view.exit_code is not None:
            status["exit_code"] = view.exit_code
        if self._profile.tells_words:
            status["time"] = (view.ended_at or view.started_at or view.submitted_at) / 1e6
            status["message"] = view.reason or view.word
            status["meta_data"] = {
                "state": view.word,
                "reason": view.reason,
                "restart_cnt": view.restarts,
                "account": view.order.account,
                "nodes": list(view.nodes),
            }
        record: dict[str, Any] = {"id": view.native_id, "status": status}
        if spec and self._profile.tells_spec:
            record["job_spec"] = view.order.extra.get("job_spec", {"name": view.order.name} if view.order.name else {})
        return record

    def _state(self, view: JobView) -> str:
        if view.state is JobState.FAILED and self._profile.completed_with_code and view.exit_code:
            return "completed"
        # a scheduler's new word goes through as it is: clients must live with it
        return _STATES.get(view.state) or view.word.lower()

    # -- ending jobs -------------------------------------------------------------------------------------------

    def _cancel(self, native_id: str) -> Response:
        view = self._view(native_id, historical=True)
        if view.state.final:
            raise Problem(400, f"Unable to cancel job: job {native_id[:80]} has ended")
        self._facility.cancel(native_id)
        return Response(status=204)


def _fits(record: Mapping[str, Any], filters: Mapping[str, Any]) -> bool:
    values = {
        "id": record["id"],
        "state": record["status"]["state"],
        "name": (record.get("job_spec") or {}).get("name", ""),
    }
    if strange := [name for name in filters if name not in values]:
        raise Problem(400, f"no filter {re.sub('[^A-Za-z0-9_]', '_', strange[0])[:40]}")
    return all(values[name] == wanted for name, wanted in filters.items())
