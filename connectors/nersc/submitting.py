"""Submitting through the Superfacility API: look up, write the files, hand in once, ask the tasks what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from connectors.base import SiteFiles
from connectors.errors import CredentialError, Fault, QuotaError, RequestRefused, SiteBusy, SiteError, UnsafePath
from connectors.files.shell import writable
from connectors.model import Accepted, Doubtful, JobSpec, Refused, SmallFile, SubmitAnswer
from connectors.nersc.api import Superfacility, TaskEnd, refused_by_slurm, words
from connectors.nersc.jobs import ours
from connectors.paths import file_path, join
from connectors.slurm import SlurmJob
from connectors.slurm.script import LOG

_FULL = ("maxsubmit", "max submit", "jobs limit", "job submit limit", "assocgrp", "violates accounting/qos policy")
_SPENT = ("insufficient balance", "negative balance", "over its allocation", "out of hours", "exceeded its")

Held = Callable[[Sequence[str]], Mapping[str, Sequence[SlurmJob]]]
"""The jobs under these names, from every source there is; raises SiteError when that cannot be told completely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitting:
    """One batch after another; keeps nothing."""

    api: Superfacility
    files: SiteFiles
    held: Held
    script: Callable[[JobSpec], str]
    """The job script; raises RequestRefused, UnsafePath."""
    site: str
    owner: str
    """Whose installation."""

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        answers: dict[str, SubmitAnswer] = {}
        scripts: dict[str, tuple[JobSpec, str]] = {}
        for spec in specs:
            if spec.key in scripts or spec.key in answers:
                continue
            try:
                scripts[spec.key] = spec, self.script(spec)
                _contents(spec)
            except (RequestRefused, UnsafePath) as error:
                scripts.pop(spec.key, None)
                answers[spec.key] = Refused(reason=str(error), fault=error.fault.value)
        if not scripts:
            return answers
        held = self.held(list(scripts))
        for key, jobs in held.items():
            if key in scripts and jobs:
                answers[key] = self._adopted(scripts.pop(key)[0], jobs)
        if scripts:
            self.files.write_many([file for spec, _ in scripts.values() for file in _contents(spec)])
            answers.update(self._hand_in({key: script for key, (_, script) in scripts.items()}))
        return answers

    def _adopted(self, spec: JobSpec, jobs: Sequence[SlurmJob]) -> SubmitAnswer:
        for job in jobs:
            if job.label is not None and job.label.matches(spec) and ours(job, self.owner):
                return Accepted(native_id=job.native_id, adopted=True)
        held = f"{spec.key} is held by job {jobs[0].native_id}"
        what = f"site {self.site}: {held}, which is another one's or would run something else"
        return Refused(reason=what, fault=Fault.SITE.value)

    def _hand_in(self, scripts: Mapping[str, str]) -> Mapping[str, SubmitAnswer]:
        answers: dict[str, SubmitAnswer] = {}
        tasks: dict[str, str] = {}
        stopped: SiteError | None = None
        for key, script in scripts.items():
            if stopped is not None:
                answers[key] = _unsent(stopped)
                continue
            try:
                tasks[key] = self.api.submit(script)
            except RequestRefused as error:
                answers[key] = Refused(reason=str(error), fault=error.fault.value)
            except SiteError as error:
                if isinstance(error, SiteBusy) and not tasks and not answers:
                    raise  # nothing of this batch was sent: all of it may come again later
                stopped = error
                answers[key] = Doubtful(reason=str(error)) if error.effect_possible else _unsent(error)
        ended, why = self.api.wait(tasks.values())
        for key, task in tasks.items():
            answers[key] = self._answer(ended.get(task), why)
        return answers

    def _answer(self, end: TaskEnd | None, why: str) -> SubmitAnswer:
        if end is None:
            return Doubtful(reason=f"site {self.site}: the job was handed in, then: {why}")
        native_id = end.inner.get("jobid")
        if isinstance(native_id, int) and not isinstance(native_id, bool):
            native_id = str(native_id)
        if end.status == "completed" and isinstance(native_id, str) and native_id.isascii() and native_id.isdecimal():
            return Accepted(native_id=native_id)
        said = end.error or end.text or f"a task that was {end.status}"
        if refused_by_slurm(said):
            return Refused(reason=f"site {self.site}: {words(said)}", fault=_fault(said))
        return Doubtful(reason=f"site {self.site}: {words(said)}")


def _unsent(error: SiteError) -> SubmitAnswer:
    """For a job that was not sent because of what befell another one."""
    if isinstance(error, (CredentialError, QuotaError)):
        return Refused(reason=str(error), fault=error.fault.value)
    return Doubtful(reason=f"not sent: {error}")


def _fault(said: str) -> str:
    plain = said.lower()
    if any(sign in plain for sign in (*_FULL, *_SPENT)):
        return Fault.QUOTA.value
    return Fault.SITE.value


def _contents(spec: JobSpec) -> Sequence[SmallFile]:
    """The job's files with their paths from the root; beside them one that makes the folder of its log, which the
    scheduler does not. Raises UnsafePath."""
    files = [replace(file, path=writable(join(spec.directory, file_path(file.path)))) for file in spec.files]
    folder = writable(join(spec.directory, LOG)).rpartition("/")[0]
    if not any(file.path.startswith(f"{folder}/") for file in files):
        files.append(SmallFile(path=f"{folder}/submitted", content=f"{spec.key}\n".encode()))
    return files
