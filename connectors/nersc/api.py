"""The Superfacility API v1.2, route by route. Knows forms and envelopes, nothing of stages.

Many routes answer HTTP 200 with {"status": "ERROR", "error": "..."}: that is the machine behind the API which gives no
answer, and never «there is no such job».
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from connectors.errors import BadReply, CredentialError, NotThere, RequestRefused, SiteError, SiteUnreachable
from connectors.http import Http, Reply
from connectors.secrets import scrub

_TOLD = 300
_LISTING = 128 << 20
"""Bytes: a job of three steps is told in some 10 kB."""
_ABSENT = ("no such file or directory", "not a directory", "is a directory", "not a regular file")
_NO = ("permission denied", "invalid user", "invalid option", "unrecognized option", "file name too long", "read-only")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnd:
    """How a task of the API ended. `inner`: what its work answered; empty where it said nothing that can be read."""

    status: str
    inner: Mapping[str, Any]
    text: str = ""

    @property
    def error(self) -> str:
        """What went wrong, in its words; empty: nothing was said."""
        told = self.inner.get("error")
        return words(told) if isinstance(told, str) else ""


class Superfacility:
    """Calls for one machine. Thread-safe."""

    def __init__(self, *, http: Http, public: Http, machine: str, task_seconds: float) -> None:
        """`public`: the same API without a token, for what everybody may read."""
        self.http = http
        self.public = public
        self.machine = machine
        self.site = http.site
        self._task_seconds = task_seconds

    # -- jobs ----------------------------------------------------------------------------------------------

    def submit(self, script: str) -> str:
        """Hand a job script in, once; the id of the task that will say what became of it. Raises SiteError; a
        RequestRefused says that certainly nothing was started."""
        path = f"compute/jobs/{self.machine}"
        told = self.http.ask("POST", path, form={"job": script, "isPath": "false"}).mapping()
        return self._task_id(told)

    def jobs(self, *, sacct: bool, **kwargs: str) -> Sequence[Mapping[str, Any]]:
        """The queue or the accounting; `kwargs` are options of squeue or sacct. Raises SiteError."""
        params = [("sacct", "true" if sacct else "false"), ("cached", "false")]
        params += [("kwargs", f"{name}={value}") for name, value in kwargs.items()]
        told = self.http.get(f"compute/jobs/{self.machine}", params=params, limit=_LISTING).mapping()
        self._good(told, "sacct" if sacct else "squeue")
        rows = told.get("output")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise BadReply(f"{self.site}: a list of jobs was expected", site=self.site)
        return rows

    def cancel(self, native_id: str) -> None:
        """Ask for a job's end. Its success proves nothing."""
        self.http.ask("DELETE", f"compute/jobs/{self.machine}/{quote(native_id, safe='')}", accept=(404,))

    # -- tasks ---------------------------------------------------------------------------------------------

    def wait(self, tasks: Iterable[str]) -> tuple[Mapping[str, TaskEnd], str]:
        """How these tasks ended, within the time that tasks may take; the ones that are still at work, or that the API
        has forgotten, are left out, and the text says why. Does not raise."""
        waiting, ended, why = list(dict.fromkeys(tasks)), dict[str, TaskEnd](), ""
        until, pause = self.http.elapsed() + self._task_seconds, 0.25
        while waiting:
            for task in list(waiting):
                try:
                    end = self._task(task)
                except SiteError as error:
                    return ended, str(error)
                if end is None:
                    waiting.remove(task)
                    why = f"task {task} is not known (any more)"
                elif end.status in {"completed", "failed", "cancelled"}:
                    waiting.remove(task)
                    ended[task] = end
            if waiting and self.http.elapsed() + pause > until:
                return ended, f"no end of task {waiting[0]} within {self._task_seconds:g} s"
            if waiting:
                self.http.sleep(pause)
                pause = min(5.0, pause * 1.6)
        return ended, why

    def _task(self, task: str) -> TaskEnd | None:
        """None: forgotten."""
        reply = self.http.get(f"tasks/{quote(task, safe='')}", accept=(404,))
        if reply.status == 404:
            return None
        told = reply.mapping()
        if "id" not in told:
            return None
        status, result = told.get("status"), told.get("result")
        inner: object = result
        if isinstance(result, str):
            try:
                inner = json.loads(result)
            except (ValueError, RecursionError):
                inner = None
        return TaskEnd(
            status=status.lower() if isinstance(status, str) else "",
            inner=inner if isinstance(inner, dict) else {},
            text=words(result) if isinstance(result, str) else "",
        )

    # -- files and commands --------------------------------------------------------------------------------

    def command(self, executable: str) -> str:
        """What a command on a login node prints. Raises SiteError; SiteUnreachable also when its end is not known."""
        path = f"utilities/command/{self.machine}"
        task = self._task_id(self.http.ask("POST", path, form={"executable": executable}).mapping())
        ended, why = self.wait([task])
        end = ended.get(task)
        if end is None:
            raise SiteUnreachable(f"{self.site}: a command gave no answer: {why}", site=self.site)
        output = end.inner.get("output")
        if isinstance(output, str) and output:
            return output
        if end.status != "completed" or end.error:
            raise SiteUnreachable(f"{self.site}: a command failed: {end.error or end.status}", site=self.site)
        return ""

    def upload(self, path: str, content: bytes) -> None:
        """Write a file whole, in a folder that exists. Raises SiteError."""
        where = f"utilities/upload/{self.machine}/{quote(path.lstrip('/'))}"
        self._file_reply(self.http.ask("PUT", where, files={"file": ("file", content)}), "upload")

    # -- status and account --------------------------------------------------------------------------------

    def status(self) -> Sequence[Mapping[str, Any]]:
        """Of every resource; needs no token."""
        return _mappings(self.public.get("status").items())

    def outages(self, *, planned: bool) -> Sequence[Mapping[str, Any]]:
        """Of every resource; needs no token."""
        found = self.public.get("status/outages/planned" if planned else "status/outages").items()
        flat = [one for inner in found for one in (inner if isinstance(inner, list) else [inner])]
        return _mappings(flat)

    def notes(self) -> Sequence[str]:
        """What is noted of the machine now."""
        found = _mappings(self.public.get(f"status/notes/{self.machine}").items())
        return [words(str(one.get("notes"))) for one in found if one.get("active") and one.get("notes")]

    def user(self) -> str:
        """Whose credential this is."""
        name = self.http.get("account/").mapping().get("name")
        if not isinstance(name, str) or not name or not name.isascii() or not name.replace("_", "").isalnum():
            raise BadReply(f"{self.site}: a user's name was expected", site=self.site)
        return name

    def projects(self) -> Sequence[Mapping[str, Any]]:
        """Our projects, with what they were given and have used."""
        return _mappings(self.http.get("account/projects").items())

    def clients(self) -> Sequence[Mapping[str, Any]]:
        """Our API clients, with their ends."""
        found = self.http.get("account/clients").json()
        if isinstance(found, dict):
            found = found.get("clients")
        return _mappings(found if isinstance(found, list) else [])

    # -- envelopes -----------------------------------------------------------------------------------------

    def _task_id(self, told: Mapping[str, Any]) -> str:
        if str(told.get("status", "")).upper() == "ERROR":
            self._good(told, "the API")
        task = told.get("task_id")
        if isinstance(task, int) and not isinstance(task, bool):
            task = str(task)
        if not isinstance(task, str) or not task.isprintable() or not 0 < len(task) <= 100:
            raise BadReply(f"{self.site}: the reply names no task", site=self.site)
        return task

    def _file_reply(self, reply: Reply, what: str) -> Mapping[str, Any]:
        told = reply.mapping()
        if reply.status == 404:
            told = {"status": "ERROR", "error": told.get("detail") or "No such file or directory"}
        self._good(told, what)
        return told

    def _good(self, told: Mapping[str, Any], what: str) -> None:
        """Raise what an error envelope means."""
        if str(told.get("status", "")).upper() != "ERROR":
            return
        text = words(str(told.get("error") or "no reason is given"))
        said, plain = f"{self.site}: {what}: {text}", text.lower()
        if any(sign in plain for sign in _ABSENT):
            raise NotThere(said, site=self.site)
        if any(sign in plain for sign in _NO) or refused_by_slurm(text):
            raise RequestRefused(said, site=self.site)
        if "expired" in plain and "token" in plain:
            raise CredentialError(said, site=self.site)
        raise SiteUnreachable(said, site=self.site)


_FATE_UNKNOWN = (
    "socket timed out",
    "unable to contact slurm controller",
    "communication connection failure",
    "zero bytes were transmitted",
    "transport endpoint",
    "connection timed out",
    "connection refused",
    "timed out",
)
_LATER = ("try again", "temporarily", "resource temporarily unavailable", "slurm temporarily unable")


def refused_by_slurm(text: str) -> bool:
    """Is this sbatch saying no? Not, where it only tells that it got no answer itself."""
    plain = text.lower()
    if any(sign in plain for sign in (*_FATE_UNKNOWN, *_LATER)):
        return False
    return "sbatch: error" in plain or "batch job submission failed" in plain


def words(text: str) -> str:
    """A foreign text as part of ours."""
    return scrub(" ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _TOLD]).split()))[:_TOLD]


def _mappings(found: Iterable[object]) -> Sequence[Mapping[str, Any]]:
    return [one for one in found if isinstance(one, dict)]
