"""Small files and commands: `/utilities/...`."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from connectors.errors import NotThere, SiteError, UnsafePath
from connectors.model import FileInfo
from sandbox.faces.http import Request, Response, answer
from sandbox.faces.superfacility.clients import ApiClient
from sandbox.faces.superfacility.forms import field, invalid, part
from sandbox.faces.superfacility.tasks import Tasks
from sandbox.facility import Facility

LONGEST_COMMAND = 128 << 10
"""Characters: one argument of a program."""


_EMPTY: Mapping[str, Mapping[str, Any]] = {
    "ls": {"entries": []},
    "download": {"file": None, "is_binary": False},
    "upload": {"output": None},
}


class Utilities:
    """The routes below `/utilities`. Fault: `status_error`."""

    def __init__(self, facility: Facility, tasks: Tasks) -> None:
        self._facility = facility
        self._tasks = tasks

    def handle(self, request: Request, verb: str, path: str, client: ApiClient) -> Response:
        """`path`: what follows the machine."""
        where = "/" + path.lstrip("/")
        wrong = self._facility.faults.take("status_error", request)
        if wrong is not None and not wrong.get("handled", False):
            return self._wrong(verb, str(wrong.get("text", "the machine does not answer")))
        found = self._answer(request, verb, where, client)
        return found if wrong is None else self._wrong(verb, str(wrong.get("text", "the machine does not answer")))

    def _answer(self, request: Request, verb: str, where: str, client: ApiClient) -> Response:
        try:
            match request.method, verb:
                case "POST", "command":
                    return self._command(request, client)
                case "GET", "ls":
                    return answer({"status": "OK", "entries": self._ls(where, client), "file": None, "error": None})
                case "GET", "download":
                    return answer(self._download(where, binary=request.first("binary") in {"true", "True", "1"}))
                case "PUT", "upload":
                    return self._upload(request, where)
                case _:
                    return answer({"detail": "Method Not Allowed"}, 405)
        except NotThere:
            return self._wrong(verb, f"{_tool(verb)}: {where}: No such file or directory")
        except UnsafePath:
            return self._wrong(verb, f"{_tool(verb)}: {where}: Permission denied")
        except SiteError as error:
            return self._wrong(verb, str(error))

    def _command(self, request: Request, client: ApiClient) -> Response:
        text = field(request, "executable")
        if text is None:
            return invalid("executable")

        def work() -> Mapping[str, Any]:
            if len(text) > LONGEST_COMMAND:
                return {"status": "error", "output": None, "error": "/bin/sh: Argument list too long"}
            if "\0" in text:
                return {"status": "error", "output": None, "error": "/bin/sh: a command holds no NUL"}
            code, output, errors = self._facility.run(text)
            told = errors.decode("utf-8", "replace").strip()
            return {
                "status": "ok" if code == 0 else "error",
                "output": output.decode("utf-8", "replace"),
                "error": told or (None if code == 0 else f"exit code {code}"),
            }

        number = self._tasks.begin(client.client_id, work)
        return answer({"task_id": number, "status": "OK", "error": None})

    def _ls(self, path: str, client: ApiClient) -> list[Mapping[str, Any]]:
        clean = path.rstrip("/") or "/"
        found = self._facility.files.stat(clean)
        if not found.is_dir:
            return [_entry(found, clean, client)]
        dots = [_entry(found, name, client) for name in (".", "..")]
        return dots + [_entry(one, one.path, client) for one in self._facility.files.list(clean)]

    def _download(self, path: str, *, binary: bool) -> Mapping[str, Any]:
        if self._facility.files.stat(path).is_dir:
            return {"status": "ERROR", "file": None, "is_binary": False, "error": f"{path}: Is a directory"}
        content = self._facility.files.read(path)
        if not binary:
            try:
                return {"status": "OK", "file": content.decode(), "is_binary": False, "error": None}
            except UnicodeDecodeError:
                error = f"{path} is not text: ask for it with binary=true"
                return {"status": "ERROR", "file": None, "is_binary": True, "error": error}
        return {"status": "OK", "file": base64.b64encode(content).decode(), "is_binary": True, "error": None}

    def _upload(self, request: Request, path: str) -> Response:
        content = part(request, "file")
        if content is None:
            return invalid("file")
        parent = path.rstrip("/").rpartition("/")[0] or "/"
        if not self._facility.files.stat(parent).is_dir:
            return answer({"status": "ERROR", "output": None, "error": f"scp: {path}: Not a directory"})
        self._facility.files.write(path.rstrip("/"), content, mode=0o640)
        return answer({"status": "OK", "output": "", "error": None})

    @staticmethod
    def _wrong(verb: str, error: str) -> Response:
        return answer({"status": "ERROR", **_EMPTY.get(verb, {"task_id": ""}), "error": error})


def _tool(verb: str) -> str:
    return "ls: cannot access" if verb == "ls" else "scp"


def _entry(info: FileInfo, name: str, client: ApiClient) -> Mapping[str, Any]:
    changed = datetime.fromtimestamp(info.modified_at / 1e6, UTC)
    return {
        "perms": "drwxr-x---" if info.is_dir else "-rw-r-----",
        "hardlinks": 2 if info.is_dir else 1,
        "user": client.user,
        "group": client.user,
        "size": 4096.0 if info.is_dir else float(info.size),
        "date": changed.strftime("%Y-%m-%dT%H:%M:%S"),
        "name": name,
    }
