"""The Globus Compute web service stood in for, and one endpoint behind it that runs tasks by the SDK's own means.

Stateful: functions, tasks and groups by their ids, endpoints online or not. What cannot be told from here, and is
therefore not shown: how the real service queues, how long it keeps results, and what its endpoints do with
`user_endpoint_config`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import psutil

from sandbox.faces.http import Request, Response, answer

ENDPOINT = "9a947ba5-0000-4000-8000-000000000001"
WORKER = Path(__file__).with_name("compute_worker.py")


class LosesReplies:
    """A fault script for the server before the face: the next submissions are accepted, and their answers are lost."""

    def __init__(self) -> None:
        self.left = 0

    def take(self, name: str, request: Request | None = None) -> dict[str, object] | None:
        if name != "reply_lost" or not self.left or request is None or not request.path.endswith("/submit"):
            return None
        self.left -= 1
        return {}


class ComputeFace:
    """`handle(request)`; a token is asked for, and expires when a test says so."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        self._worker = subprocess.Popen([sys.executable, str(WORKER), str(folder)], stdin=subprocess.PIPE, text=True)
        self.functions: dict[str, dict[str, object]] = {}
        self.tasks: dict[str, dict[str, object]] = {}
        self.groups: dict[str, list[str]] = {}
        self.status = "online"
        self.token = "a-token-for-compute"
        self.down = False
        self.asked: list[str] = []

    def close(self) -> None:
        self._worker.stdin.close()
        self._worker.wait(10)
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if str(process.environ().get("GC_TASK_SANDBOX_DIR", "")).startswith(f"{self._folder}/"):
                    process.kill()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 30
        while not (self._folder / "ready").exists():
            assert time.monotonic() < deadline, "the worker does not come up"
            time.sleep(0.01)

    # -- the routes --------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Response:
        self.asked.append(f"{request.method} {request.path}")
        if self.down:
            return answer({"reason": "down for a while"}, 503)
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["v2", "version"]:
                return answer({"api": "1.0.0", "min_ep_version": "0.0.1", "min_sdk_version": "0.0.1"})
            case _ if request.bearer != self.token:
                return answer({"code": 18, "reason": "Unauthorized", "status": "Failed"}, 401)
            case "POST", ["v3", "functions"]:
                return self._register(request.json())
            case "POST", ["v3", "endpoints", endpoint, "submit"]:
                return self._submit(endpoint, request.json())
            case "GET", ["v2", "taskgroup", group]:
                if group not in self.groups:
                    return answer({"code": 19, "reason": f"no task group {group}", "status": "Failed"}, 404)
                tasks = [{"id": task} for task in self.groups[group]]
                return answer({"taskgroup_id": group, "tasks": tasks, "create_websockets_queue": False})
            case "POST", ["v2", "batch_status"]:
                ids = request.json()["task_ids"]
                found = {task: self._view(task) for task in ids if task in self.tasks}
                return answer({"response": "batch", "results": found})
            case "GET", ["v2", "tasks", task] if task in self.tasks:
                return answer(self._view(task))
            case "GET", ["v2", "endpoints", endpoint, "status"] if endpoint == ENDPOINT:
                return answer({"status": self.status, "details": {"total_workers": 1}})
        return answer({"code": 1, "reason": "not found", "status": "Failed"}, 404)

    def _register(self, data: dict[str, object]) -> Response:
        if not isinstance(data.get("function_code"), str) or not isinstance(data.get("function_name"), str):
            return answer({"reason": "a function has a name and code"}, 400)
        id_ = str(uuid.uuid4())
        self.functions[id_] = data
        return answer({"function_uuid": id_})

    def _submit(self, endpoint: str, body: dict[str, object]) -> Response:
        if endpoint != ENDPOINT or any(function not in self.functions for function in body["tasks"]):
            return answer({"reason": "no such endpoint or function"}, 404)
        group = str(body.get("task_group_id") or uuid.uuid4())
        told: dict[str, list[str]] = {}
        for function, payloads in body["tasks"].items():
            told[function] = [self._start(function, payload, body) for payload in payloads]
            self.groups.setdefault(group, []).extend(told[function])
        return answer({"request_id": "r1", "task_group_id": group, "endpoint_id": endpoint, "tasks": told})

    def _start(self, function: str, payload: str, body: dict[str, object]) -> str:
        id_ = str(uuid.uuid4())
        self.tasks[id_] = {"config": body.get("user_endpoint_config"), "results": body.get("result_serializers")}
        line = {"id": id_, "function": self.functions[function]["function_code"], "payload": payload}
        self._worker.stdin.write(json.dumps(line) + "\n")
        self._worker.stdin.flush()
        return id_

    def _view(self, task: str) -> dict[str, object]:
        found = self._folder / "results" / task
        if not found.exists():
            return {"task_id": task, "status": "running"}
        result = json.loads(found.read_text())
        word = "failed" if "exception" in result else "success"
        return {"task_id": task, "status": word, "completion_t": str(found.stat().st_mtime), **result}
