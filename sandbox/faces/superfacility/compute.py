"""Jobs: `/compute/jobs/...`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.errors import NotThere, SiteError, UnsafePath
from connectors.model import JobState
from sandbox.faces.http import Request, Response, answer
from sandbox.faces.superfacility.clients import ApiClient
from sandbox.faces.superfacility.forms import field, fields, invalid, truth
from sandbox.faces.superfacility.rows import Columns, chosen
from sandbox.faces.superfacility.tasks import Tasks
from sandbox.facilities.heads import slurm_order
from sandbox.facility import Facility, JobView, Order, OrderRefused

_SILENT = "Unable to contact slurm controller (connect failure)"
_FILTERS = {
    "jobid": "jobid", "jobids": "jobid", "jobs": "jobid", "user": "user", "users": "user", "uid": "user",
    "partition": "partition", "name": "name", "account": "account", "accounts": "account", "qos": "qos",
    "state": "state", "states": "state",
}  # fmt: skip
_SACCT_ONLY = frozenset({"starttime", "endtime", "duplicates", "allocations"})


class Compute:
    """The routes below `/compute`. Faults: `status_error` (HTTP 200 with an error, after the work if `handled`),
    `task_error` (a submission's task holds an error of sbatch; nothing was accepted), `cached` (an answer is that old,
    where the caller does not say `cached=false`)."""

    def __init__(self, facility: Facility, tasks: Tasks, columns: Columns) -> None:
        self._facility = facility
        self._tasks = tasks
        self._columns = columns

    def handle(self, request: Request, job: str, client: ApiClient) -> Response:
        """`job`: what follows the machine; empty: all jobs."""
        match request.method, bool(job):
            case "POST", False:
                return self._submit(request, client)
            case "GET", _:
                return self._list(request, job)
            case "DELETE", True:
                return self._cancel(job, client)
        return answer({"detail": "Method Not Allowed"}, 405)

    # -- submitting ----------------------------------------------------------------------------------------

    def _submit(self, request: Request, client: ApiClient) -> Response:
        job, is_path = field(request, "job"), truth(field(request, "isPath"))
        if job is None or field(request, "isPath") is None:
            return invalid("job" if job is None else "isPath")
        if is_path is None:
            return invalid("isPath", text="value could not be parsed to a boolean", kind="type_error.bool")
        wrong = self._facility.faults.take("status_error", request)
        if wrong is not None and not wrong.get("handled", False):
            return _command_error(str(wrong.get("text", "the machine does not answer")))
        number = self._tasks.done(client.client_id, self._sbatch(request, job, is_path=is_path, client=client))
        if wrong is not None:
            return _command_error(str(wrong.get("text", "the machine does not answer")))
        return answer({"task_id": number, "status": "OK", "error": None})

    def _sbatch(self, request: Request, job: str, *, is_path: bool, client: ApiClient) -> Mapping[str, Any]:
        wrong = self._facility.faults.take("task_error", request)
        if wrong is not None:
            text = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
            return {"status": "error", "jobid": None, "error": str(wrong.get("text", text))}
        try:
            script = self._facility.files.read(job).decode("utf-8", "replace") if is_path else job
            extra = {"path": job, "args": tuple(fields(request, "args"))} if is_path else {}
            name = job.rpartition("/")[2] if is_path else "sbatch"
            order = slurm_order(script.replace("\r\n", "\n"), base=Order(name=name, user=client.user, extra=extra))
            native_id = self._facility.submit(order)
        except OrderRefused as error:
            said = str(error)
            return {"status": "error", "jobid": None, "error": said if "sbatch" in said else f"sbatch: error: {said}"}
        except (NotThere, UnsafePath):
            return {"status": "error", "jobid": None, "error": f"sbatch: error: Unable to open file {job}"}
        except SiteError:
            said = f"sbatch: error: Batch job submission failed: {_SILENT}"
            return {"status": "error", "jobid": None, "error": said}
        return {"status": "ok", "jobid": native_id, "error": None}

    # -- looking -------------------------------------------------------------------------------------------

    def _list(self, request: Request, job: str) -> Response:
        sacct, cached = truth(request.first("sacct", "false")), truth(request.first("cached", "true"))
        if sacct is None or cached is None:
            name = "sacct" if sacct is None else "cached"
            return invalid(name, where="query", text="value could not be parsed to a boolean", kind="type_error.bool")
        wrong = self._facility.faults.take("status_error", request)
        if wrong is not None:
            return _error(str(wrong.get("text", f"slurm_load_jobs error: {_SILENT}")))
        options = [("jobid", job)] if job else []
        for pair in request.all("kwargs"):
            name, equals, value = pair.partition("=")
            if name not in _FILTERS and not (sacct and name in _SACCT_ONLY):
                tool = "sacct" if sacct else "squeue"
                return _error(f"{tool}: unrecognized option '--{name}'")
            options.append((name, value if equals else ""))
        try:
            with self._facility.held_still():
                rows = self._rows(request, options, sacct=sacct, cached=cached)
        except SiteError:
            return _error(f"slurm_load_jobs error: {_SILENT}")
        except ValueError as error:
            return _error(f"{'sacct' if sacct else 'squeue'}: error: Invalid value: {error}")
        return answer({"status": "OK", "output": rows, "error": None})

    def _rows(
        self, request: Request, options: Sequence[tuple[str, str]], *, sacct: bool, cached: bool
    ) -> list[Mapping[str, str]]:
        now = self._facility.now()
        wanted: dict[str, list[str]] = {}
        for name, value in options:
            if name in _FILTERS:
                wanted.setdefault(_FILTERS[name], []).extend(part for part in value.split(",") if part)
        for number in wanted.get("jobid", ()):
            if not number.partition("_")[0].isdecimal():
                raise ValueError(f"Invalid job id specified: {number[:40]}")
        if sacct:
            words = dict(options)
            default = 0 if wanted.get("jobid") else self._columns.midnight(now)
            start = self._columns.moment(words["starttime"], now) if "starttime" in words else default
            end = self._columns.moment(words["endtime"], now) if "endtime" in words else now
            views = chosen(self._facility.accounting(), wanted)
            views = [view for view in views if view.submitted_at <= end and (view.ended_at or now) >= start]
            return [row for view in self._seen(request, views, cached, now) for row in self._columns.sacct(view, now)]
        views = chosen(self._facility.jobs(ended_too=False), wanted)
        return [self._columns.squeue(view, now) for view in self._seen(request, views, cached, now)]

    def _seen(self, request: Request, views: list[JobView], cached: bool, now: int) -> list[JobView]:
        """A cached answer may be older than the newest jobs."""
        stale = self._facility.faults.take("cached", request) if cached else None
        if stale is None:
            return views
        newest = now - round(float(stale.get("age", 60)) * 1e6)
        return [view for view in views if view.submitted_at <= newest]

    # -- ending --------------------------------------------------------------------------------------------

    def _cancel(self, job: str, client: ApiClient) -> Response:
        """As scancel: silent about what is not there, and no promise."""
        try:
            view = self._facility.job(job)
            if view is not None and view.order.user != client.user:
                return _command_error(f"scancel: error: Kill job error on job id {job}: Access/permission denied")
            if view is not None and view.state not in _ENDED:
                self._facility.cancel(job)
        except SiteError:
            return _command_error(f"scancel: error: slurm_kill_job2() failed: {_SILENT}")
        number = self._tasks.done(client.client_id, {"status": "ok", "output": "", "error": None})
        return answer({"task_id": number, "status": "OK", "error": None})


_ENDED = frozenset(state for state in JobState if state.final)


def _error(text: str) -> Response:
    return answer({"status": "ERROR", "output": [], "error": text})


def _command_error(text: str) -> Response:
    return answer({"task_id": "", "status": "ERROR", "error": text})
