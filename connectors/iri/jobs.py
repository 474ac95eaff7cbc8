"""A job as the IRI API tells of it.

The API has seven states, PSI/J's and `held`; that a job was preempted or ran into its time limit stands, if anywhere,
in the message or in the metadata, in the scheduler's own words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.iri.body import label_text
from connectors.model import JobState, JobStatus
from connectors.names import Label, label_of
from connectors.slurm.jobs import moment, number
from connectors.slurm.words import STATES as SLURM
from connectors.slurm.words import fatal_reason

STATES = {
    "new": JobState.QUEUED,
    "queued": JobState.QUEUED,
    "held": JobState.HELD,
    "active": JobState.RUNNING,
    "completed": JobState.SUCCEEDED,
    "failed": JobState.FAILED,
    "canceled": JobState.CANCELED,
    "cancelled": JobState.CANCELED,
}
_NATIVE_WORD = ("state", "job_state", "native_state", "slurm_state")
_RESTARTS = ("restart_cnt", "restarts", "restart_count", "run_count")
_NEVER = re.compile(r"can never run|too many failed attempts|insufficient amount of resource: never", re.IGNORECASE)
"""What PBS says in a job's comment when waiting will not help."""
_PREEMPTED = re.compile(r"\bpreempted\b|at request of scheduler", re.IGNORECASE)
_TOLD = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class IriJob:
    """One job. Times are µs."""

    native_id: str
    state: JobState
    word: str
    """The API's state, and the scheduler's where that is told."""
    message: str = ""
    exit_code: int | None = None
    restarts: int = 0
    changed_at: int | None = None
    name: str = ""
    label: Label | None = None

    def status(self, key: str) -> JobStatus:
        """As the port tells it."""
        waiting = self.state in {JobState.QUEUED, JobState.HELD}
        return JobStatus(
            key=key,
            native_id=self.native_id,
            state=self.state,
            exit_code=self.exit_code if self.state.final else None,
            restarts=self.restarts,
            native_state=self.word,
            native_reason=self.message,
            stuck_reason=_stuck(self.message) if waiting else "",
            ended_at=self.changed_at if self.state.final else None,
        )


def job_of(record: object) -> IriJob | None:
    """A job from JSON; None: it is none, or has no id. Whatever has another type counts as not said."""
    if not isinstance(record, Mapping):
        return None
    native_id = record.get("id")
    if isinstance(native_id, int) and not isinstance(native_id, bool):
        native_id = str(native_id)
    if not isinstance(native_id, str) or not re.fullmatch(r"[!-~]{1,200}", native_id):
        return None
    status = _mapping(record.get("status"))
    spec = _mapping(record.get("job_spec"))
    meta = _mapping(status.get("meta_data"))
    message = _line(status.get("message"))
    code = number(status.get("exit_code"))
    if code is None and isinstance(status.get("exit_code"), int):  # below 0: ended by the site, not by itself
        code = int(status["exit_code"])
    state, word = _state(_line(status.get("state")), _native(meta, message), message, code)
    name = spec.get("name")
    return IriJob(
        native_id=native_id,
        state=state,
        word=word,
        message=message,
        exit_code=code,
        restarts=next((found for name in _RESTARTS if (found := number(meta.get(name)))), 0),
        changed_at=_moment(status.get("time")),
        name=name if isinstance(name, str) else "",
        label=label_of(label_text(spec)),
    )


def _state(told: str, native: str, message: str, code: int | None) -> tuple[JobState, str]:
    """What the API's word, the scheduler's word and the exit code mean together."""
    state = STATES.get(told.lower(), JobState.UNKNOWN)
    word = f"{told} ({native})" if native and native.lower() != told.lower() else told
    finer = SLURM.get(native, JobState.UNKNOWN)
    if state in {JobState.FAILED, JobState.CANCELED}:
        if finer.final and finer is not JobState.SUCCEEDED:
            return finer, word
        return (JobState.PREEMPTED if _PREEMPTED.search(message) else state), word
    if state is JobState.SUCCEEDED and code:
        return JobState.FAILED, word  # a site was seen to call this completed
    return state, word


def _native(meta: Mapping[str, Any], message: str) -> str:
    """The scheduler's own word, where it is told."""
    for name in _NATIVE_WORD:
        value = meta.get(name)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, str) and value.strip():
            return value.split()[0].upper()[:40]
    words = re.findall(r"\b[A-Z][A-Z_]{3,}\b", message)
    return next((word for word in words if word in SLURM), "")


def _stuck(message: str) -> str:
    if _NEVER.search(message):
        return message
    return next((reason for part in re.split(r"[\s,;:()]+", message) if (reason := fatal_reason(part))), "")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _line(value: object) -> str:
    """A foreign text as one bounded line."""
    if not isinstance(value, str):
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in value[: 4 * _TOLD]).split())[:_TOLD]


def _moment(value: object) -> int | None:
    if isinstance(value, float) and 0 < value < 1e11:
        return round(value * 1e6)
    return moment(value)
