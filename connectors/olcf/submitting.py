"""Submissions: looked up in one call, files written together, then one post for each job, never a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connectors.base import SiteFiles
from connectors.errors import (
    BadReply,
    CredentialError,
    Fault,
    RequestRefused,
    SiteBusy,
    SiteError,
    SiteUnreachable,
    UnsafePath,
)
from connectors.model import Accepted, Doubtful, JobSpec, Refused, SmallFile, SubmitAnswer
from connectors.names import KEY
from connectors.olcf.api import SlurmRest
from connectors.olcf.envelope import DENIED, LIMIT, Envelope
from connectors.paths import clean, file_path, join
from connectors.slurm import SlurmJob
from connectors.slurm.jobs import number

Held = Callable[[Sequence[str]], Mapping[str, Sequence[SlurmJob]]]
"""Ours under these names, from one look at the queue. Raises SiteError where that look was not complete."""
Body = Callable[[JobSpec], Mapping[str, Any]]


class Submitting:
    def __init__(self, *, api: SlurmRest, files: SiteFiles, held: Held, body: Body) -> None:
        self._api = api
        self._files = files
        self._held = held
        self._body = body

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        """One answer per key. Raises SiteError where none of them was posted."""
        answers: dict[str, SubmitAnswer] = {}
        bodies: dict[str, tuple[JobSpec, Mapping[str, Any]]] = {}
        for spec in specs:
            try:
                bodies.setdefault(spec.key, (spec, self._fit(spec)))
            except (RequestRefused, UnsafePath) as error:
                answers[spec.key] = Refused(reason=str(error), fault=Fault.APPLICATION.value)
        if not bodies:
            return answers
        held = self._held(list(bodies))
        for key, jobs in held.items():
            if jobs and key in bodies:
                answers[key] = _adopt(bodies.pop(key)[0], jobs)
        if files := [file for spec, _ in bodies.values() for file in _files_of(spec)]:
            self._files.write_many(files)
        self._post({key: body for key, (_, body) in bodies.items()}, answers)
        return answers

    def _fit(self, spec: JobSpec) -> Mapping[str, Any]:
        if not KEY.fullmatch(spec.key):
            raise RequestRefused(f"{spec.key[:80]!r} is not a submit key")
        if not clean(spec.directory):
            raise UnsafePath("a job needs a folder of its own below the site's root")
        if file_path(spec.entry).startswith("-"):
            raise RequestRefused(f"entry {spec.entry!r} would be taken for an option of the shell; rename it")
        _files_of(spec)
        return self._body(spec)

    def _post(self, bodies: Mapping[str, Mapping[str, Any]], answers: dict[str, SubmitAnswer]) -> None:
        """What stops one job's post stops those after it, too: they were surely not sent."""
        stopped: SiteError | None = None
        sent = False
        for key, body in bodies.items():
            if stopped is not None:
                answers[key] = _unsent(stopped)
                continue
            try:
                answers[key] = self._judged(self._api.submit(body))
            except RequestRefused as error:
                answers[key] = Refused(reason=str(error), fault=error.fault.value)
            except (SiteUnreachable, BadReply) as error:
                if not error.effect_possible and not sent:
                    raise
                answers[key] = Doubtful(reason=str(error))
                stopped = error
            except SiteError as error:  # a credential, a quota, a busy site: nothing was done
                if not sent:
                    raise
                answers[key] = _unsent(error)
                stopped = error
            sent = True

    def _judged(self, found: Envelope) -> SubmitAnswer:
        """A job's number is an answer whatever stands beside it: Slurm also tells there why the job will wait."""
        native_id = number(found.document.get("job_id"))
        if native_id and native_id > 0 and found.status < 400:
            return Accepted(native_id=str(native_id))
        if found.credential:
            raise CredentialError(f"{self._api.site}: the token is not accepted: {found.text}", site=self._api.site)
        if found.has(DENIED):
            return Refused(reason=found.text, fault=Fault.CREDENTIAL.value)
        if found.has(LIMIT):
            return Refused(reason=found.text, fault=Fault.QUOTA.value)
        if found.status == 400 or any(one.refusal for one in found.errors):
            return Refused(reason=found.text, fault=Fault.SITE.value)
        # 1800: the controller is away; 5004: it is silent, and may take the job when it wakes; 5005: it hung up
        return Doubtful(reason=found.text)


def _adopt(spec: JobSpec, jobs: Sequence[SlurmJob]) -> SubmitAnswer:
    for job in jobs:
        if job.label is not None and job.label.matches(spec):
            return Accepted(native_id=job.native_id, adopted=True)
    return Refused(reason=f"key {spec.key} belongs to another job here (number {jobs[0].native_id})")


def _unsent(error: SiteError) -> SubmitAnswer:
    """Not asked for, because the job before it was answered with this."""
    if isinstance(error, SiteUnreachable | BadReply | SiteBusy):
        return Doubtful(reason=f"not sent: {error}")
    return Refused(reason=str(error), fault=error.fault.value)


def _files_of(spec: JobSpec) -> Sequence[SmallFile]:
    """Below the site's root. Raises UnsafePath."""
    return [
        SmallFile(path=join(spec.directory, file_path(file.path)), content=file.content, mode=file.mode)
        for file in spec.files
    ]
