"""Tasks: what was asked for and ends later. `/task`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.faces.http import Request, Response, answer
from sandbox.faces.iri.problems import Problem, known_parameters
from sandbox.facility import Facility

_KEPT = 300_000_000
"""µs that an ended task is remembered."""


@dataclass(slots=True)
class _Task:
    name: str
    user: str
    command: Mapping[str, Any]
    work: Callable[[], Mapping[str, Any]]
    due: int
    status: str = "active"
    result: Mapping[str, Any] | None = None


class Tasks:
    """Of all users. A task's work is done when somebody looks at it after it is due."""

    def __init__(self, facility: Facility, *, seconds: float) -> None:
        self._facility, self._micros = facility, round(seconds * 1e6)
        self._tasks: dict[str, _Task] = {}
        self._count = 0
        self._lock = threading.Lock()

    def add(self, user: str, verb: str, words: Mapping[str, Any], work: Callable[[], Mapping[str, Any]]) -> str:
        """A new one; its id."""
        now = self._facility.now()
        with self._lock:
            self._count += 1
            name = f"task-{self._count}"
            command = {"router": "filesystem", "command": verb, "args": dict(words)}
            task = self._tasks[name] = _Task(name, user, command, work, now + self._micros)
            for old in [key for key, one in self._tasks.items() if one.due + _KEPT < now]:
                del self._tasks[old]
            if not self._micros:
                self._look(task)
        return name

    def handle(self, request: Request, words: Sequence[str], user: str) -> Response:
        known_parameters(request, ())
        with self._lock:
            mine = {name: task for name, task in self._tasks.items() if task.user == user}
            match request.method, *words:
                case ("GET",):
                    return answer([self._record(task) for task in mine.values()])
                case "GET", name if name in mine:
                    return answer(self._record(mine[name]))
                case "DELETE", name if name in mine:
                    if mine[name].status == "active":
                        mine[name].status = "canceled"
                    return answer(name)
                case _:
                    raise Problem(404, "Task not found")

    def _record(self, task: _Task) -> dict[str, Any]:
        self._look(task)
        return {"id": task.name, "status": task.status, "result": task.result, "command": task.command}

    def _look(self, task: _Task) -> None:
        if task.status == "active" and self._facility.now() >= task.due:
            task.result = task.work()
            task.status = "failed" if "error" in task.result else "completed"
