"""What the command connector asks of a scheduler's dialect: scripts to send, replies to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from connectors.command.calls import Section
from connectors.model import Evidence, Finding, JobSpec, JobStatus, SubmitAnswer
from connectors.names import Label

BATCH = 50
"""Jobs submitted in one call: a reply that gets lost leaves no more than these in doubt."""


class Job(Protocol):
    """A job as the scheduler tells of it: `SlurmJob`, `PbsJob`."""

    @property
    def native_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> str: ...
    @property
    def label(self) -> Label | None: ...
    def status(self, key: str) -> JobStatus: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A script for `Caller.ask` and the lines it reads."""

    script: str
    lines: Sequence[str]


class AskAgain(Exception):
    """The reply could not be read in this form; `asking` gives another form now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Jobs of our user, whoever's they are; `complete`: those that are not among them are not there."""

    jobs: Sequence[Job]
    complete: bool


class Dialect(Protocol):
    """One scheduler's commands. Replies are foreign: what makes no sense is a SiteError."""

    def script(self, spec: JobSpec) -> str:
        """The job script. Raises RequestRefused, UnsafePath."""
        ...

    def request(self, spec: JobSpec) -> str:
        """The command line that carries it, for a person."""
        ...

    def submitting(self, scripts: Mapping[str, str]) -> Call:
        """Submit each of these scripts once, in a section named by its key."""
        ...

    def submitted(self, section: Section | None) -> SubmitAnswer: ...

    def asking(self, keys: Sequence[str], *, everywhere: bool, since: float | None) -> Call:
        """Look for these names; without any, for all jobs of ours that lived in the last `since` seconds.
        `everywhere`: in the accounting too, though the queue may know them."""
        ...

    def answered(self, sections: Mapping[str, Section]) -> Found:
        """Raises SiteUnreachable where the scheduler could not be asked; AskAgain."""
        ...

    def canceling(self, jobs: Sequence[Job]) -> Call: ...

    def probing(self) -> Call: ...

    def probed(self, sections: Mapping[str, Section], *, site: str, at: int, latency: float) -> Sequence[Evidence]: ...

    def checked(self, sections: Mapping[str, Section]) -> Sequence[Finding]:
        """What `check` says of the same reply: who we are there, what we may use."""
        ...
