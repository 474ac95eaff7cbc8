"""From the site's records and /proc to a job's state."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.local.children import Children
from connectors.local.ending import carriers
from connectors.local.process import Process, look
from connectors.local.records import CancelMark, Record, Records, Trace
from connectors.model import JobState, JobStatus

_LAST_SIGNAL = 64


def judge(found: Sequence[Record], records: Records, children: Children) -> list[JobStatus]:
    """The state of each job. /proc is searched, once for all, only for jobs whose launcher is gone silently."""
    answers: list[JobStatus] = []
    silent: dict[str, Record] = {}
    for record in found:
        answer = _plain(record, records, children)
        if answer is None:
            silent[record.key] = record
        else:
            answers.append(answer)
    alive = carriers(silent) if any(record.this_boot for record in silent.values()) else {}
    return answers + [_silent(record, records, len(alive.get(key, ()))) for key, record in silent.items()]


def is_running(record: Record) -> Process | None:
    """The job's launcher, if that very process lives."""
    if not record.this_boot:
        return None
    process = look(record.pid)
    return process if process and process.started == record.started and process.alive else None


def _plain(record: Record, records: Records, children: Children) -> JobStatus | None:
    """The state that the records tell or the living launcher; None when the launcher left no word."""
    if record.tombstone:
        return _status(record, JobState.CANCELED, reason="canceled before it was submitted", ended_at=record.at)
    trace = records.trace(record.key)
    if trace is None and is_running(record):
        asked = records.cancel_mark(record.key)
        return _status(record, JobState.RUNNING, reason="asked to end" if asked else "")
    if trace is None:
        zombie = look(record.pid)
        if zombie and zombie.started == record.started:
            children.reap_zombie(zombie, record.key, records)
        trace = records.trace(record.key)  # it may have ended between the two looks
    if trace is None or trace.exit_code is None:
        return None
    return _ended(record, trace, trace.exit_code, records.cancel_mark(record.key))


def _ended(record: Record, trace: Trace, code: int, asked: CancelMark | None) -> JobStatus:
    # as a shell tells it: a program that itself exits with 128 + n looks like one ended by signal n
    number = code - 128 if 128 < code <= 128 + _LAST_SIGNAL else None
    if code == 0:
        return _status(record, JobState.SUCCEEDED, exit_code=0, ended_at=trace.ended_at)
    state, reason = JobState.FAILED, f"exit code {code}"
    if asked and not asked.late:
        state, reason = JobState.CANCELED, f"asked to end; exit code {code}"
    return _status(record, state, reason=reason, exit_code=code, signal=number, ended_at=trace.ended_at)


def _silent(record: Record, records: Records, living: int) -> JobStatus:
    """The launcher is gone without an exit code."""
    if living:
        return _status(record, JobState.RUNNING, reason=f"its launcher is gone, {living} of its processes live on")
    trace = records.trace(record.key)
    ended_at = trace.ended_at if trace else None
    number = trace.signal if trace else None
    asked = records.cancel_mark(record.key)
    if asked and not asked.late:
        return _status(record, JobState.CANCELED, reason="asked to end", signal=number, ended_at=ended_at)
    if number is not None:
        reason = f"its launcher was killed by signal {number}"
        return _status(record, JobState.FAILED, reason=reason, signal=number, ended_at=ended_at)
    if trace:
        return _status(record, JobState.NODE_FAILED, reason="the exit status could not be written: disk full?")
    if not record.this_boot:
        return _status(record, JobState.NODE_FAILED, reason="the machine was restarted while the job ran")
    return _status(record, JobState.NODE_FAILED, reason="process vanished without an exit status")


def _status(
    record: Record,
    state: JobState,
    *,
    reason: str = "",
    exit_code: int | None = None,
    signal: int | None = None,
    ended_at: int | None = None,
) -> JobStatus:
    started = None if record.tombstone else record.at
    return JobStatus(
        key=record.key,
        native_id=record.native_id,
        state=state,
        exit_code=exit_code,
        signal=signal,
        native_state="canceled" if record.tombstone else _NATIVE[state],
        native_reason=reason,
        submitted_at=started,
        started_at=started,
        ended_at=ended_at,
    )


_NATIVE = {
    JobState.RUNNING: "alive",
    JobState.SUCCEEDED: "exited",
    JobState.FAILED: "exited",
    JobState.CANCELED: "ended",
    JobState.NODE_FAILED: "vanished",
}
