"""Jobs as the Superfacility API tells them: every field a string, the queue's and the accounting's names different."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from connectors.model import JobState
from connectors.names import NOBODY
from connectors.slurm import SlurmJob, exit_of, state_of

_NONE = frozenset({"", "none", "(null)", "n/a", "unknown"})


def job_of(row: Mapping[str, Any], zone: ZoneInfo) -> SlurmJob | None:
    """One row; None: a step of a job (`123.batch`), a member of an array, or nothing that has an id."""
    native_id = _text(row, "jobid")
    if not native_id.isascii() or not native_id.isdecimal() or len(native_id) > 20:
        return None
    reason = _text(row, "reason")
    reason = "" if reason.lower() in _NONE else reason
    state, word = state_of(_text(row, "state"), reason=reason)
    code, signal = exit_of(_text(row, "exitcode"))
    restarts = _text(row, "restarts", "restart_cnt", "restartcnt")
    begun = state is JobState.RUNNING or state.final
    return SlurmJob(
        native_id=native_id,
        name=_text(row, "name", "jobname"),
        comment=_text(row, "comment"),
        state=state,
        word=word[:80],
        reason=reason[:300],
        restarts=int(restarts) if restarts.isascii() and restarts.isdecimal() and len(restarts) < 7 else 0,
        exit_code=code,
        signal=signal,
        submitted_at=moment(_text(row, "submit_time", "submit"), zone),
        started_at=moment(_text(row, "start_time", "start"), zone) if begun else None,
        ended_at=moment(_text(row, "end_time", "end"), zone) if state.final else None,
        user=_text(row, "user"),
    )


def jobs_of(rows: Iterable[Mapping[str, Any]], zone: ZoneInfo) -> Sequence[SlurmJob]:
    """All that are jobs."""
    return [job for row in rows if (job := job_of(row, zone)) is not None]


def ours(job: SlurmJob, owner: str) -> bool:
    """May it be one of this installation's? Not, when its comment says otherwise. An empty one says nothing: some
    accountings keep no comments."""
    label = job.label
    if label is None:
        return job.comment.lower() in _NONE
    return label.key == job.name and label.owner in {owner or NOBODY, NOBODY}


def merged(queue: Iterable[SlurmJob], accounting: Iterable[SlurmJob]) -> Mapping[str, Sequence[SlurmJob]]:
    """By name, oldest first. Of a job that both tell of: the queue's word, unless the accounting tells its end; the
    larger count of restarts; the comment of either."""
    found: dict[tuple[str, str], SlurmJob] = {}
    for job in (*queue, *accounting):
        held = found.get((job.name, job.native_id))
        found[job.name, job.native_id] = job if held is None else _both(held, job)
    by_name: defaultdict[str, list[SlurmJob]] = defaultdict(list)
    for job in sorted(found.values(), key=lambda job: int(job.native_id)):
        by_name[job.name].append(job)
    return by_name


def _both(queue: SlurmJob, accounting: SlurmJob) -> SlurmJob:
    base = accounting if queue.state.final and accounting.state.final else queue
    return replace(
        base,
        restarts=max(queue.restarts, accounting.restarts),
        comment=queue.comment if queue.label else accounting.comment,
    )


def moment(text: str, zone: ZoneInfo) -> int | None:
    """Slurm's local time as µs; None: not said."""
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            found = found.replace(tzinfo=zone)
        return round(found.timestamp()) * 1_000_000
    except (ValueError, OverflowError, OSError):
        return None


def _text(row: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that is text."""
    for name in names:
        value = row.get(name)
        if isinstance(value, str):
            return value.strip()
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return ""
