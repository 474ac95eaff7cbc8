"""A Globus Compute endpoint as a site."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from shlex import quote

from connectors.base import SiteFiles
from connectors.errors import CredentialError, Fault, RequestRefused, SiteBusy, SiteError, UnsafePath
from connectors.files.held import HoldsFiles
from connectors.files.mounted import MountedFiles
from connectors.files.shell import ShellFiles
from connectors.globus_compute.ledger import Ledger, Note, group_of
from connectors.globus_compute.options import ComputeOptions
from connectors.globus_compute.service import ComputeService, Task
from connectors.model import (
    Accepted,
    Doubtful,
    Evidence,
    Finding,
    JobSpec,
    JobState,
    JobStatus,
    Listing,
    Refused,
    Script,
    SmallFile,
    SubmitAnswer,
)
from connectors.names import KEY, NOBODY, short_digest
from connectors.paths import clean, file_path, join
from connectors.registry import Clock, SiteConfig

LOG = ".crossfade/wrapper.log"
LARGEST_FILE = 1 << 20
"""Bytes of a control file."""
REQUEST = ".crossfade/request"

WAITING = frozenset(
    {"received", "waiting-for-ep", "waiting-for-nodes", "waiting-for-launch", "pending", "unknown", "queued"}
)
_LOST_NODE = ("ManagerLost", "WorkerLost", "EndpointInterchange", "parsl.executors")
_NAMES = {"partition": "queue", "nodes": "nodes_per_block"}


class ComputeEndpointSite(HoldsFiles[SiteFiles]):
    """The port `connectors.base.Site`, with `Scripted`, `Checkable` and `Preparable`."""

    inline = False
    claim = "atomic_fs"

    def __init__(
        self, config: SiteConfig, *, options: ComputeOptions, service: ComputeService, files: SiteFiles, clock: Clock
    ) -> None:
        self.name = config.name
        self._config, self._options, self._service = config, options, service
        self.files, self._ledger, self._clock = files, Ledger(files), clock
        self._owner = config.installation or NOBODY

    def prepare(self) -> str:
        """Make the root, where the way to the files can; answers its identity."""
        if isinstance(self.files, MountedFiles | ShellFiles):
            return self.files.prepare()
        return self.name

    # -- jobs ------------------------------------------------------------------------------------------

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        """The note of an intent first, for all of them in one call; then each once."""
        answers: dict[str, SubmitAnswer] = {}
        fit: dict[str, JobSpec] = {}
        for spec in specs:
            if why := _unfit(spec):
                answers[spec.key] = Refused(reason=why, fault=Fault.APPLICATION.value)
            else:
                fit[spec.key] = spec
        if not fit:
            return answers
        notes = self._ledger.read(fit)
        fresh: list[JobSpec] = []
        for key, spec in fit.items():
            if (note := notes.get(key)) is None:
                fresh.append(spec)
            elif (held := self._held(spec, note)) is not None:
                answers[key] = held
            else:
                fresh.append(spec)
        if fresh:
            self.files.write_many([_below(spec, file) for spec in fresh for file in spec.files])
            meant = {spec.key: self._note(spec) for spec in fresh}
            self._ledger.write(list(meant.values()))
            sent = self._send_all(fresh)
            answers |= sent
            done = [replace(meant[key], task=a.native_id) for key, a in sent.items() if isinstance(a, Accepted)]
            self._noted(done)
        return answers

    def find(self, keys: Sequence[str]) -> Listing:
        """By the notes, and by the group of each key whose note has no task: accepted, and the answer was lost."""
        return self._listing(self._ledger.read(_ours(keys)))

    def status(self, keys: Sequence[str]) -> Listing:
        return self.find(keys)

    def list_mine(self, since: int) -> Listing:
        notes = self._ledger.read(_ours(self._ledger.keys()))
        listing = self._listing({key: note for key, note in notes.items() if note.owner in {self._owner, NOBODY}})
        items = [item for item in listing.items if item.ended_at is None or item.ended_at >= since]
        return replace(listing, items=items)

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """The service ends no task: the wrapper is asked to stop, at once or as soon as it begins. True only when the
        task is over, or nobody ever submitted it."""
        notes = self._ledger.read(_ours(keys))
        listing = self._listing(notes)
        alive = {item.key for item in listing.items if not item.state.final}
        asked = [notes[key] for key in alive if not notes[key].canceled]
        if asked:
            self.files.write_many([SmallFile(path=f"{n.directory}/{REQUEST}", content=b"stop\n") for n in asked])
            self._ledger.write([replace(note, canceled=True) for note in asked])
        return {key: key not in alive for key in keys}

    def script(self, spec: JobSpec) -> Script:
        body = {
            "endpoint": self._options.endpoint,
            "task_group_id": group_of(self._options.endpoint, self._owner, spec.key),
            "user_endpoint_config": self._endpoint_config(spec),
        }
        address = f"POST {self._options.base}/v3/endpoints/{self._options.endpoint}/submit"
        return Script(script=self._line(spec) + "\n", request=f"{address}\n{json.dumps(body, indent=2)}\n")

    # -- health ----------------------------------------------------------------------------------------

    def probe(self) -> Sequence[Evidence]:
        """The endpoint's status is what can be asked without running anything."""
        now = self._clock()
        try:
            told = self._service.endpoint(self._options.endpoint)
        except CredentialError as error:
            return [self._evidence("credentials", ok=False, now=now, detail=str(error))]
        except SiteError as error:
            return [self._evidence(what, ok=False, now=now, detail=str(error)) for what in ("submit", "status")]
        word = told.get("status")
        online = word == "online"
        detail = f"the endpoint is {word if isinstance(word, str) else 'of unknown state'}"[:200]
        return [
            self._evidence("credentials", ok=True, now=now),
            self._evidence("status", ok=True, now=now),
            self._evidence("submit", ok=online, now=now, detail="" if online else detail),
            self._evidence("compute", ok=online, now=now, detail="" if online else detail),
        ]

    def check(self, *, canary: bool = False) -> Sequence[Finding]:
        del canary  # a job here has no smaller form than a stage: `run` one
        found = [
            Finding(step=e.capability, ok=e.ok, detail=e.detail, help="" if e.ok else "globus-compute-endpoint start")
            for e in self.probe()
            if e.capability in {"credentials", "status", "submit"}
        ]
        try:
            self.files.list("")
            found.append(Finding(step="files", ok=True))
        except SiteError as error:
            found.append(Finding(step="files", ok=False, detail=str(error), help=error.help))
        return found

    # -- behind ----------------------------------------------------------------------------------------

    def _held(self, spec: JobSpec, note: Note) -> SubmitAnswer | None:
        """What the key has been given already; None: an intent that was never accepted."""
        if note.digest != short_digest(spec.digest):
            return Refused(reason=f"key {spec.key} belongs to another job here (digest {note.digest[:16]})")
        if note.task:
            return Accepted(native_id=note.task, adopted=True)
        tasks = self._service.group(group_of(self._options.endpoint, self._owner, spec.key))
        if not tasks:
            return None
        self._noted([replace(note, task=tasks[0])])
        return Accepted(native_id=tasks[0], adopted=True)

    def _send_all(self, specs: Sequence[JobSpec]) -> dict[str, SubmitAnswer]:
        """One after the other. A failure that would meet all of them ends the round: the first one's is raised, later
        keys are in doubt, and found not to be there."""
        sent: dict[str, SubmitAnswer] = {}
        for spec in specs:
            try:
                sent[spec.key] = self._send(spec)
            except SiteError as error:
                if not sent:
                    raise
                return {**{one.key: Doubtful(reason=str(error)) for one in specs}, **sent}
        return sent

    def _send(self, spec: JobSpec) -> SubmitAnswer:
        group = group_of(self._options.endpoint, self._owner, spec.key)
        try:
            task = self._service.submit(
                self._options.endpoint, self._line(spec), group=group, config=self._endpoint_config(spec)
            )
        except (CredentialError, SiteBusy):
            raise
        except RequestRefused as error:
            return Refused(reason=str(error), fault=error.fault.value)
        except SiteError as error:
            if not error.effect_possible:
                raise
            return Doubtful(reason=str(error))
        return Accepted(native_id=task)

    def _noted(self, notes: Sequence[Note]) -> None:
        """As well as it goes: a note without its task is found again by its group."""
        try:
            self._ledger.write(notes)
        except SiteError:
            return

    def _note(self, spec: JobSpec) -> Note:
        return Note(
            key=spec.key,
            owner=self._owner,
            digest=short_digest(spec.digest),
            directory=clean(spec.directory),
            at=self._clock(),
        )

    def _listing(self, notes: Mapping[str, Note]) -> Listing:
        of_key: dict[str, Sequence[str]] = {}
        for key, note in notes.items():
            known = note.task or ""
            of_key[key] = [known] if known else self._service.group(group_of(self._options.endpoint, note.owner, key))
        tasks = self._service.tasks([task for found in of_key.values() for task in found])
        items = [_status(notes[key], tasks[task]) for key, found in of_key.items() for task in found if task in tasks]
        return Listing(items=items, complete=True, as_of=self._clock())

    def _line(self, spec: JobSpec) -> str:
        folder = f"{self._config.root.rstrip('/')}/{clean(spec.directory)}"
        mask = f"umask {quote(self._config.umask)}; " if self._config.umask else ""
        return f"{mask}cd {quote(folder)} && exec /bin/sh {quote(file_path(spec.entry))} >>{LOG} 2>&1"

    def _endpoint_config(self, spec: JobSpec) -> dict[str, object]:
        needs = spec.resources
        config: dict[str, object] = {**self._options.config, "nodes_per_block": needs.nodes}
        if needs.walltime is not None:
            whole = max(1, math.ceil(needs.walltime))
            config["walltime"] = f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"
        config |= {_NAMES.get(name, name): value for name, value in spec.submit.items()}
        return config

    def _evidence(self, capability: str, *, ok: bool, now: int, detail: str = "") -> Evidence:
        return Evidence(site=self.name, capability=capability, ok=ok, at=now, detail=detail)


def _ours(keys: Sequence[str]) -> list[str]:
    return [key for key in keys if KEY.fullmatch(key)]


def _below(spec: JobSpec, file: SmallFile) -> SmallFile:
    return replace(file, path=join(spec.directory, file.path))


def _unfit(spec: JobSpec) -> str:
    try:
        if not KEY.fullmatch(spec.key):
            return f"{spec.key[:80]!r} is not a submit key"
        if not clean(spec.directory):
            return "a job needs a folder of its own below the site's root"
        if file_path(spec.entry).startswith("-"):
            return f"entry {spec.entry!r} would be taken for an option of the shell; rename it"
        for file in spec.files:
            join(spec.directory, file_path(file.path))
            if len(file.content) > LARGEST_FILE:
                return f"file {file.path} has {len(file.content)} bytes; at most {LARGEST_FILE} go with a job"
    except UnsafePath as error:
        return str(error)
    return ""


def _status(note: Note, task: Task) -> JobStatus:
    state, code = _state(note, task)
    return JobStatus(
        key=note.key,
        native_id=task.id,
        state=state,
        exit_code=code,
        native_state=task.word,
        native_reason=task.exception.strip().splitlines()[-1][:200] if task.exception.strip() else "",
        submitted_at=note.at,
        ended_at=task.ended_at if state.final else None,
    )


def _state(note: Note, task: Task) -> tuple[JobState, int | None]:
    if task.word == "running":
        return JobState.RUNNING, None
    if task.word in WAITING:
        return JobState.QUEUED, None
    if task.word == "failed":
        gone = any(word in task.exception for word in _LOST_NODE)
        return (JobState.NODE_FAILED if gone else JobState.FAILED), None
    if task.word != "success":
        return JobState.UNKNOWN, None
    code = task.result.get("returncode") if task.result is not None else None
    if isinstance(code, bool) or not isinstance(code, int):
        return JobState.SUCCEEDED, None  # the wrapper's exit record says the rest
    if code == 0:
        return JobState.SUCCEEDED, 0
    return (JobState.CANCELED if note.canceled else JobState.FAILED), code
