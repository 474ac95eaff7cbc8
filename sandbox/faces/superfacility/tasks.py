"""The API's tasks: work that is begun by one call and asked for by others."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.errors import SiteError
from sandbox.faces.http import Request, Response, answer
from sandbox.facility import Facility

_KEPT = 10_000


@dataclass(slots=True)
class _Task:
    owner: str
    shown_from: int
    """µs; before that it is new."""
    result: Mapping[str, Any] | None = None
    status: str = "completed"


class Tasks:
    """Thread-safe. Faults: `task_forgotten` (404), `task_stuck` (still new)."""

    def __init__(self, facility: Facility, *, seconds: float, background: bool) -> None:
        """`seconds`: how long the fastest task is new. `background`: commands run in threads of their own, not within
        the call that begins them."""
        self._facility = facility
        self._delay = round(seconds * 1e6)
        self._background = background
        self._numbers = itertools.count(412)
        self._tasks: dict[str, _Task] = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def close(self) -> None:
        """Wait for what is at work; a command lasts a minute at most."""
        for thread in self._threads:
            thread.join()

    def done(self, owner: str, result: Mapping[str, Any]) -> str:
        """A task whose work is done already; its id."""
        number, task = self._new(owner)
        task.result = result
        return number

    def begin(self, owner: str, work: Callable[[], Mapping[str, Any]]) -> str:
        """Begin the work; the task's id."""
        number, task = self._new(owner)

        def run() -> None:
            try:
                result = work()
            except SiteError as error:
                result = {"status": "error", "output": None, "error": str(error)}
            with self._lock:
                task.result = result

        if self._background:
            thread = threading.Thread(target=run, name=f"command-{number}", daemon=True)
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]
            thread.start()
        else:
            run()
        return number

    def handle(self, request: Request, number: str, owner: str) -> Response:
        """`/tasks` and `/tasks/ID`."""
        with self._lock:
            mine = {name: task for name, task in self._tasks.items() if task.owner == owner}
            if not number:
                return answer({"tasks": [self._told(name, task) for name, task in mine.items()]})
            task = mine.get(number)
            if task is not None and self._facility.faults.take("task_forgotten", request) is not None:
                self._tasks.pop(number)
                task = None
            if task is None:
                return answer({"detail": f"Task {number} not found"}, 404)
            if request.method == "DELETE":
                if self._told(number, task)["status"] == "new":
                    task.status, task.shown_from = "cancelled", 0
                    task.result = task.result or {}
                return answer({"task_id": number, "status": "OK", "error": None})
            if self._facility.faults.take("task_stuck", request) is not None:
                return answer({"id": number, "status": "new", "result": None})
            return answer(self._told(number, task))

    def _new(self, owner: str) -> tuple[str, _Task]:
        task = _Task(owner=owner, shown_from=self._facility.now() + self._delay)
        with self._lock:
            number = str(next(self._numbers))
            self._tasks[number] = task
            while len(self._tasks) > _KEPT:
                self._tasks.pop(next(iter(self._tasks)))
        return number, task

    def _told(self, number: str, task: _Task) -> Mapping[str, Any]:
        if task.result is None or self._facility.now() < task.shown_from:
            return {"id": number, "status": "new", "result": None}
        return {"id": number, "status": task.status, "result": json.dumps(task.result)}
