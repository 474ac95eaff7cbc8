"""One attempt, from what was seen of it: which state it is in now, and how it ended if it did. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from broker.facts import NOWHERE
from broker.states import AttemptState, may_move, move
from broker.store.base import AttemptRow
from connectors.errors import Fault
from connectors.model import JobState
from policies.model import Failure, SiteFacts

_A = AttemptState
GATED_EXIT = 73
"""The harness's exit code of a job that found its attempt claimed by another one."""

JOB_ENDS: dict[JobState, tuple[AttemptState, Fault, str]] = {
    JobState.SUCCEEDED: (_A.FAILED, Fault.SITE, "the site says it succeeded, but there is no exit record"),
    JobState.FAILED: (_A.FAILED, Fault.SITE, "the job ended without an exit record"),
    JobState.CANCELED: (_A.FAILED, Fault.SITE, "somebody canceled the job at the site"),
    JobState.PREEMPTED: (_A.PREEMPTED, Fault.PREEMPTED, "preempted"),
    JobState.TIMED_OUT: (_A.TIMED_OUT, Fault.TIME_LIMIT, "the site ended it at its time limit"),
    JobState.OUT_OF_MEMORY: (_A.FAILED, Fault.MEMORY, "the site ended it for want of memory"),
    JobState.NODE_FAILED: (_A.FAILED, Fault.SITE, "what it ran on failed"),
    JobState.LOST: (_A.FAILED, Fault.SITE, "the site does not know the job"),
}
"""What a final word of the site means when the harness left no exit record."""

_MAY_LAG = frozenset({JobState.SUCCEEDED, JobState.LOST})
"""Words after which an exit record, or the job itself, may still turn up."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What looking at an attempt's facts led to."""

    row: AttemptRow
    failure: Failure | None = None
    """Set when it ended without a result."""
    effect: str = ""
    """The effect that is wanted next: submit or verify."""


def advance(row: AttemptRow, *, site: SiteFacts | None, now: int) -> Progress:
    """The attempt after its facts were taken in. Repeated and late facts change nothing."""
    if row.state in _FINAL_WORDS:
        return Progress(row)
    ended = _dead(row) or _staged(row) or _answered(row)
    if ended is not None:
        return _close_if_final(ended, now)
    row, effect = _moved_on(row, now)
    progress = _exited(row, now) or _job_ended(row) or Progress(row, effect=effect)
    if progress.failure is None and AttemptState(progress.row.state).final is False:
        progress = _reach(progress, site)
    return _close_if_final(progress, now)


_FINAL_WORDS = frozenset(state.value for state in AttemptState if state.final)


def fail(row: AttemptRow, state: AttemptState, fault: Fault, reason: str, **seen: int | None) -> Progress:
    """The attempt, ended without a result."""
    failed = to_state(row, state)._replace(reason=reason, failure=fault.value)
    restored = json.loads(row.restore)["seq"] if row.restore else None
    return Progress(
        failed,
        failure=Failure(
            fault=fault, site=row.site, exit_code=seen.get("exit_code"), detail=reason, restored_seq=restored
        ),
    )


def to_state(row: AttemptRow, state: AttemptState) -> AttemptRow:
    """The row in that state, if it may go there; itself when it is there already. Raises IllegalMove."""
    old = AttemptState(row.state)
    if old is state:
        return row
    if not may_move(old, state):
        # reports may skip states: go by the lawful way between
        for between in (_A.SUBMITTING, _A.RUNNING, _A.VERIFYING):
            if may_move(old, between) and may_move(between, state):
                return row._replace(state=state.value)
    return row._replace(state=move(old, state).value)


def _dead(row: AttemptRow) -> Progress | None:
    if not row.dead or _exit_of(row):
        return None
    how = json.loads(row.dead).get("how", "gone")
    if row.cancel_requested_at is not None:
        return Progress(to_state(row, _A.CANCELED)._replace(reason=row.reason or f"canceled: {how}"))
    return fail(row, _A.FAILED, Fault.SITE, f"surely dead: {how}")


def _staged(row: AttemptRow) -> Progress | None:
    if row.state != _A.STAGING_IN or not row.staged:
        return None
    answer = json.loads(row.staged)
    if "held" in answer:
        return None  # on its way still: a person is asked
    if answer["ok"] and row.site == NOWHERE:
        return Progress(to_state(row, _A.SUCCEEDED))
    if answer["ok"]:
        return Progress(to_state(row, _A.SUBMITTING), effect="submit")
    return fail(row, _A.FAILED, fault_of(answer, Fault.STAGING), answer["reason"])


def _answered(row: AttemptRow) -> Progress | None:
    if row.state != _A.SUBMITTING or not row.answer:
        return None
    answer = json.loads(row.answer)
    if "refused" in answer:
        return fail(row, _A.FAILED, fault_of(answer, Fault.SITE), f"refused: {answer['refused']}")
    return None


def _moved_on(row: AttemptRow, now: int) -> tuple[AttemptRow, str]:
    """Into QUEUED and RUNNING, and back to QUEUED when the site requeued it."""
    if row.state == _A.SUBMITTING and row.answer:
        row = to_state(row, _A.QUEUED)._replace(submitted_at=json.loads(row.answer).get("at", now))
    job, started = _job_of(row), json.loads(row.started) if row.started else None
    if job and job["state"] in ("queued", "held") and started and job["restarts"] >= started["generation"]:
        if row.state == _A.RUNNING:
            row = to_state(row, _A.QUEUED)._replace(reason=f"requeued by {row.site}")
    elif row.state in (_A.SUBMITTING, _A.QUEUED) and (started or (job and job["state"] == "running")):
        at = started["at"] if started else (job or {}).get("started_at")
        row = to_state(row, _A.RUNNING)._replace(started_at=row.started_at or at or now, reason="")
    return row, ""


def _exited(row: AttemptRow, now: int) -> Progress | None:
    """What the harness's exit record says; it beats the site's word."""
    if row.state in (_A.VERIFYING, _A.STAGING_OUT):
        return _verified(row)  # it has ended well, whatever was started after it
    record = _exit_of(row)
    if record is None:
        return None
    if record["kind"] == "stopped":
        return _stopped(row)
    ended_well = record["kind"] == "done" and record["exit_code"] == 0 and not record["missing"]
    if row.cancel_requested_at is not None and not ended_well:
        # the signal that we asked for may reach the payload before its wrapper: that is no fault of anybody's
        return Progress(to_state(row, _A.CANCELED)._replace(reason=row.reason or "ended as asked"))
    if record["kind"] == "timed_out":
        return fail(row, _A.TIMED_OUT, Fault.TIME_LIMIT, "it ran into its time limit", exit_code=record["exit_code"])
    if record["kind"] == "too_late":
        return fail(row, _A.FAILED, Fault.SITE, "it came up after its latest start and refused to run")
    if record["kind"] == "input_missing":
        return fail(row, _A.FAILED, Fault.STAGING, f"it could not start: {_inputs_at_fault(record)}")
    if record["kind"] == "restore_failed":
        return fail(row, _A.FAILED, Fault.APPLICATION, "the checkpoint could not be restored")
    code = record["exit_code"]
    if code != 0:
        job = _job_of(row)
        if job and job["state"] == JobState.OUT_OF_MEMORY.value:
            return fail(row, _A.FAILED, Fault.MEMORY, f"out of memory (exit code {code})", exit_code=code)
        if record.get("signal") and job and job["state"] == JobState.PREEMPTED.value:
            return fail(row, _A.PREEMPTED, Fault.PREEMPTED, "the site ended it before its wrapper heard of it")
        words = f"exit code {code}" + (f" (signal {record['signal']})" if record.get("signal") else "")
        return fail(row, _A.FAILED, Fault.APPLICATION, words, exit_code=code)
    if record["missing"]:
        missing = ", ".join(record["missing"][:5])
        return fail(row, _A.FAILED, Fault.APPLICATION, f"exit code 0, but it did not write {missing}", exit_code=0)
    ended = row._replace(ended_at=record.get("ended_at") or now)
    if record["outputs"]:
        return Progress(to_state(ended, _A.VERIFYING), effect="verify")
    return Progress(to_state(ended, _A.SUCCEEDED))


def _inputs_at_fault(record: dict[str, Any]) -> str:
    """Whichever of its inputs were not as they were brought, in a few words."""
    absent = ", ".join(record["missing"][:5])
    changed = ", ".join(
        f"{path} has {size} bytes, not what was brought" for path, size in record.get("wrong_size", ())[:5]
    )
    told = [f"{absent} is not in its place"] if absent else []
    return "; ".join([*told, *([changed] if changed else [])]) or "an input is not in its place"


def _verified(row: AttemptRow) -> Progress:
    if not row.verified:
        return Progress(row)
    answer = json.loads(row.verified)
    if answer["ok"]:
        return Progress(to_state(row, _A.SUCCEEDED))
    return fail(row, _A.FAILED, fault_of(answer, Fault.SITE), answer["reason"], exit_code=0)


def _stopped(row: AttemptRow) -> Progress | None:
    """The payload was asked to end, and did. Whose wish was it?"""
    if row.cancel_requested_at is not None:
        return Progress(to_state(row, _A.CANCELED)._replace(reason=row.reason or "stopped as asked"))
    job = _job_of(row)
    if job and not JobState(job["state"]).final:
        return None  # the site is about to start it again (a requeue), or has not noticed yet
    if job and job["state"] == JobState.TIMED_OUT.value:
        return fail(row, _A.TIMED_OUT, Fault.TIME_LIMIT, "the site ended it at its time limit")
    return fail(row, _A.PREEMPTED, Fault.PREEMPTED, "the site asked it to stop")


def _job_ended(row: AttemptRow) -> Progress | None:
    """What the site's final word means when there is no exit record."""
    job = _job_of(row)
    if job is None or row.state in (_A.PLANNED, _A.STAGING_IN):
        return None
    state = JobState(job["state"])
    if not state.final:
        return None
    if state is JobState.LOST and not row.answer:
        return None  # the effect that submits is still to find out whether there is a job
    gated = job.get("exit_code") == GATED_EXIT  # another job of this attempt holds the claim: follow the key to it
    if (state in _MAY_LAG or gated) and not job["confirmed"]:
        return None  # time alone confirms nothing: the site is asked again
    if row.cancel_requested_at is not None:
        return Progress(to_state(row, _A.CANCELED)._replace(reason=row.reason or f"canceled ({job['native_state']})"))
    end, fault, words = JOB_ENDS[state]
    native = job.get("native_reason") or job.get("native_state")
    return fail(row, end, fault, f"{words} ({native})" if native else words, exit_code=job.get("exit_code"))


def _reach(progress: Progress, site: SiteFacts | None) -> Progress:
    """Mark whether its site can be asked; the state stays what it was."""
    row = progress.row
    if site is not None and site.silent and row.unreachable_since is None:
        row = row._replace(unreachable_since=site.cannot_ask_since)
    elif site is not None and site.answers and row.unreachable_since is not None:
        row = row._replace(unreachable_since=None)
    return Progress(row, progress.failure, progress.effect)


def _close_if_final(progress: Progress, now: int) -> Progress:
    row = progress.row
    if row.state in _FINAL_WORDS and row.open:
        row = row._replace(open=0, ended_at=row.ended_at or now, unreachable_since=None)
        return Progress(row, progress.failure, progress.effect)
    return progress


def never_submitted(row: AttemptRow) -> bool:
    """Only inputs were being brought: no job can exist at the silent site. Of what only moves data a transfer may."""
    return row.site != NOWHERE and row.state in (_A.PLANNED, _A.STAGING_IN)


def fault_of(answer: dict[str, Any], otherwise: Fault) -> Fault:
    """The fault that a connector names; a word that is none of ours is taken for `otherwise`."""
    try:
        return Fault(answer.get("fault") or otherwise.value)
    except ValueError:
        return otherwise


def held_for(row: AttemptRow) -> tuple[str, str]:
    """Why its files go no further until a person acts, and the command that helps; both empty: they do."""
    if row.state != _A.STAGING_IN or not row.staged:
        return "", ""
    answer = json.loads(row.staged)
    return str(answer.get("held", "")), str(answer.get("help", ""))


def stuck_reason(row: AttemptRow) -> str:
    """Why its job, although queued, will never start; empty: it may."""
    job = _job_of(row)
    return str(job.get("stuck", "")) if job and row.state == _A.QUEUED else ""


def _job_of(row: AttemptRow) -> dict[str, Any] | None:
    return json.loads(row.job) if row.job else None


def _exit_of(row: AttemptRow) -> dict[str, Any] | None:
    """The exit record, unless a newer generation has started since."""
    if not row.exit:
        return None
    record: dict[str, Any] = json.loads(row.exit)
    if row.started and json.loads(row.started)["generation"] > record["generation"]:
        return None
    return record
