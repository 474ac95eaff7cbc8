"""The web service's routes: functions, submissions, tasks, endpoints. One method each; what is odd is refused here."""

from __future__ import annotations

import base64
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.errors import BadReply, SiteError, SiteUnreachable
from connectors.globus_compute.packing import job_function, result_of, script_function, submission
from connectors.http import Http

SCOPE = "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all"
_LOOK_EVERY = 1.0
"""Seconds between two looks at a short function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the service says of a task."""

    id: str
    word: str
    """success, failed, or one of the words for what has not ended."""
    result: Mapping[str, Any] | None = None
    exception: str = ""
    ended_at: int | None = None


class ComputeService:
    """Thread-safe."""

    def __init__(self, http: Http, *, sleep: Callable[[float], None], elapsed: Callable[[], float]) -> None:
        self._http, self._sleep, self._elapsed = http, sleep, elapsed
        self._lock = threading.Lock()
        self._functions: dict[str, str] = {}

    def submit(self, endpoint: str, line: str, *, group: str, config: Mapping[str, Any]) -> str:
        """Submit one shell line, once; the task's id."""
        return self._submit(endpoint, job_function(), {"line": line}, group=group, config=config)

    def _submit(
        self,
        endpoint: str,
        function: Mapping[str, Any],
        given: Mapping[str, str],
        *,
        group: str,
        config: Mapping[str, Any],
    ) -> str:
        body = submission(self._registered(function), given, group=group, config=config)
        reply = self._http.ask("POST", f"/v3/endpoints/{endpoint}/submit", json=body).mapping()
        tasks = reply.get("tasks")
        ids = [one for found in tasks.values() for one in found] if isinstance(tasks, dict) else []
        if len(ids) != 1:
            what = f"{self._http.site}: one task was submitted, and {len(ids)} were told of"
            raise BadReply(what, site=self._http.site)
        return self._id(ids[0])

    def _registered(self, function: Mapping[str, Any]) -> str:
        """The function's UUID, registered once by this process. Registering one twice does no harm."""
        name = str(function["function_name"])
        with self._lock:
            if name not in self._functions:
                try:
                    reply = self._http.ask("POST", "/v3/functions", json=function)
                except SiteError as error:
                    error.effect_possible = False  # of what the function is wanted for
                    raise
                self._functions[name] = self._id(reply.mapping().get("function_uuid"))
            return self._functions[name]

    def group(self, group: str) -> Sequence[str]:
        """The tasks of a group, oldest first as told; none: nobody knows it."""
        reply = self._http.get(f"/v2/taskgroup/{group}", accept={404})
        if reply.status == 404:
            return []
        tasks = reply.mapping().get("tasks")
        if not isinstance(tasks, list):
            raise BadReply(f"{self._http.site}: a task group without its tasks", site=self._http.site)
        return [self._id(one.get("id") if isinstance(one, dict) else one) for one in tasks]

    def tasks(self, ids: Sequence[str]) -> Mapping[str, Task]:
        """Those of these tasks that the service knows, by one call."""
        if not ids:
            return {}
        reply = self._http.ask("POST", "/v2/batch_status", json={"task_ids": list(ids)}, safe=True).mapping()
        results = reply.get("results")
        if not isinstance(results, dict):
            raise BadReply(f"{self._http.site}: the state of tasks was asked for, not told", site=self._http.site)
        return {id_: _task(id_, one) for id_, one in results.items() if id_ in ids and isinstance(one, dict)}

    def endpoint(self, endpoint: str) -> Mapping[str, Any]:
        """The endpoint's status: `status` is online, offline, ..."""
        return self._http.get(f"/v2/endpoints/{endpoint}/status").mapping()

    def run(self, endpoint: str, script: str, stdin: bytes, *, within: float) -> bytes:
        """A short script there, to its end; what it printed. Raises SiteUnreachable when it takes longer: whether it
        ran is then open."""
        end = self._elapsed() + within
        given = {"script": script, "stdin": base64.b64encode(stdin).decode()}
        id_ = self._submit(endpoint, script_function(), given, group=str(uuid.uuid4()), config={})
        while True:
            task = self.tasks([id_]).get(id_)
            if task is not None and task.word == "failed":
                raise SiteUnreachable(f"{self._http.site}: a short function failed: {_line(task.exception)}")
            if task is not None and task.word == "success":
                return self._printed(task)
            if self._elapsed() >= end:
                raise SiteUnreachable(f"{self._http.site}: a short function has not ended after {within:g} s")
            self._sleep(_LOOK_EVERY)

    def _printed(self, task: Task) -> bytes:
        told = task.result.get("stdout") if task.result is not None else None
        try:
            return base64.b64decode(told if isinstance(told, str) else "?", validate=True)
        except ValueError as error:
            what = f"{self._http.site}: a short function did not answer with what it printed"
            raise BadReply(what, site=self._http.site) from error

    def _id(self, value: object) -> str:
        try:
            return str(uuid.UUID(str(value)))
        except ValueError as error:
            raise BadReply(f"{self._http.site}: an id that is none", site=self._http.site) from error


def _task(id_: str, told: Mapping[str, Any]) -> Task:
    word = told.get("status")
    ended = told.get("completion_t")
    try:
        ended_at = round(float(ended) * 1e6) if ended is not None else None
    except (TypeError, ValueError, OverflowError):
        ended_at = None
    exception = told.get("exception", told.get("reason", ""))
    return Task(
        id=id_,
        word=word.lower() if isinstance(word, str) else "",
        result=result_of(told.get("result")),
        exception=exception if isinstance(exception, str) else "",
        ended_at=ended_at,
    )


def _line(text: str) -> str:
    last = text.strip().splitlines()[-1] if text.strip() else "no reason told"
    return "".join(letter if letter.isprintable() else " " for letter in last)[:300]
