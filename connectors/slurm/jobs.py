"""One job as Slurm tells of it: JSON of squeue 22.05 and newer, of the REST API, of the accounting; text of sacct.

Numbers come plain or wrapped ({"set": true, "infinite": false, "number": 3}), states as a word or as a list of words;
all of these are read, and whatever else stands there counts as not said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.model import JobState, JobStatus
from connectors.names import Label, label_of
from connectors.slurm.words import fatal_reason, state_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmJob:
    """A job's record. Times are µs."""

    native_id: str
    name: str
    comment: str = ""
    state: JobState
    word: str = ""
    reason: str = ""
    restarts: int = 0
    exit_code: int | None = None
    signal: int | None = None
    submitted_at: int | None = None
    started_at: int | None = None
    ended_at: int | None = None
    user: str = ""
    folder: str = ""
    """Its working directory."""

    @property
    def label(self) -> Label | None:
        """What our comment says; None: it has none of ours."""
        return label_of(self.comment)

    def status(self, key: str) -> JobStatus:
        """As the port tells it."""
        return JobStatus(
            key=key,
            native_id=self.native_id,
            state=self.state,
            exit_code=self.exit_code if self.state.final else None,
            signal=self.signal if self.state.final else None,
            restarts=self.restarts,
            native_state=self.word,
            native_reason=self.reason,
            stuck_reason=fatal_reason(self.reason) if self.state in {JobState.QUEUED, JobState.HELD} else "",
            submitted_at=self.submitted_at,
            started_at=self.started_at,
            ended_at=self.ended_at,
        )


def job_of(record: Mapping[str, Any]) -> SlurmJob | None:
    """A job from JSON, in any of the shapes there are; None: it has no id."""
    native_id = number(record.get("job_id", record.get("jobid")))
    if native_id is None:
        return None
    state_part, time = record.get("state"), record.get("time")
    words = record.get("job_state")
    reason = record.get("state_reason")
    if words is None and isinstance(state_part, Mapping):  # the accounting's shape
        words, reason = state_part.get("current"), reason or state_part.get("reason")
    elif words is None:
        words = state_part
    if not isinstance(words, str):
        words = [word for word in words if isinstance(word, str)] if isinstance(words, Sequence) else []
    reason = reason if isinstance(reason, str) and reason != "None" else ""
    state, word = state_of(words, reason=reason)
    code, signal = exit_of(record.get("exit_code"))
    times = time if isinstance(time, Mapping) else {}
    comment = record.get("comment")
    if isinstance(comment, Mapping):
        comment = comment.get("job")
    return SlurmJob(
        native_id=str(native_id),
        name=_text(record.get("name")),
        comment=_text(comment),
        state=state,
        word=word,
        reason=reason,
        restarts=number(record.get("restart_cnt")) or 0,
        exit_code=code,
        signal=signal,
        submitted_at=moment(record.get("submit_time", times.get("submission"))),
        started_at=moment(record.get("start_time", times.get("start"))) if state is not JobState.QUEUED else None,
        ended_at=moment(record.get("end_time", times.get("end"))) if state.final else None,
        user=_text(record.get("user_name", record.get("user"))),
        folder=_text(record.get("current_working_directory", record.get("working_directory"))),
    )


def number(value: object) -> int | None:
    """A number, plain or wrapped; None: not set, infinite, or none at all."""
    if isinstance(value, Mapping):
        if value.get("infinite") is True or value.get("set") is False:
            return None
        value = value.get("number")
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.strip().isdecimal() and len(value) <= 20:
        return int(value)
    return None


def moment(value: object) -> int | None:
    """Seconds since the epoch, plain or wrapped, as µs; 0 is «not yet»."""
    found = number(value)
    return found * 1_000_000 if found and 0 < found < 10**11 else None


def exit_of(value: object) -> tuple[int | None, int | None]:
    """Exit code and signal: of `1:0`, of the raw word of wait(2), or of {"return_code": ..., "signal": ...}."""
    if isinstance(value, Mapping) and ("return_code" in value or "signal" in value):
        signal = value.get("signal")
        inner = signal.get("signal_id", signal.get("id")) if isinstance(signal, Mapping) else signal
        return number(value.get("return_code")), number(inner) or None
    if isinstance(value, str) and ":" in value:
        code, _, told = value.partition(":")
        return number(code), number(told) or None
    raw = number(value)
    if raw is None:
        return None, None
    return raw >> 8, (raw & 0x7F) or None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
