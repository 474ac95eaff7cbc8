"""States of run, stage and attempt: one sentence each, and the transition tables.

An illegal move raises. A report that repeats the present state, or comes late, is for the caller to drop
before it asks for a move (`may_move` answers without raising).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar


class RunState(StrEnum):
    """A whole workflow under way."""

    PENDING = "PENDING"
    """Stored; no stage has been looked at."""
    RUNNING = "RUNNING"
    """At least one stage can go on by itself."""
    WAITING = "WAITING"
    """Nothing goes on until what the reason names has happened."""
    SUCCEEDED = "SUCCEEDED"
    """Every required stage has its product."""
    FAILED = "FAILED"
    """A required stage has failed and nothing else is left to run."""
    CANCELED = "CANCELED"
    """Somebody canceled it."""

    @property
    def final(self) -> bool:
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED)


class StageState(StrEnum):
    """One unit of placement."""

    WAITING = "WAITING"
    """Some stage it needs has not succeeded yet."""
    READY = "READY"
    """May start; wants a site."""
    ACTIVE = "ACTIVE"
    """Has a current attempt."""
    AWAITING_DECISION = "AWAITING_DECISION"
    """A person must say what happens next."""
    SUCCEEDED = "SUCCEEDED"
    """Its one product is published."""
    FAILED = "FAILED"
    """Given up; the reason says why."""
    CANCELED = "CANCELED"
    """Somebody canceled it; no product will be accepted any more."""
    SKIPPED = "SKIPPED"
    """Never started: its `when` is false, or a stage it needs failed or was canceled."""

    @property
    def final(self) -> bool:
        return self in _FINAL_STAGES


_FINAL_STAGES = frozenset({StageState.SUCCEEDED, StageState.FAILED, StageState.CANCELED, StageState.SKIPPED})


class AttemptState(StrEnum):
    """One try at one site. UNREACHABLE is no state but a time beside it (`unreachable_since`)."""

    PLANNED = "PLANNED"
    """Decided, nothing done."""
    STAGING_IN = "STAGING_IN"
    """Its files, inputs or checkpoint are being brought to the site; or, of a copy, all there is to bring."""
    SUBMITTING = "SUBMITTING"
    """A job may or may not exist at the site: find it by its key before submitting again."""
    QUEUED = "QUEUED"
    """The site has the job; it has not started."""
    RUNNING = "RUNNING"
    """The site or the harness says that it started."""
    STAGING_OUT = "STAGING_OUT"
    """The payload ended well; its outputs are being brought where they are wanted."""
    VERIFYING = "VERIFYING"
    """The payload ended well; its outputs are being compared with their manifest."""
    SUCCEEDED = "SUCCEEDED"
    """Verified. Whether it became the stage's product is in the product row."""
    FAILED = "FAILED"
    """Ended badly; the failure class says whose fault it was."""
    PREEMPTED = "PREEMPTED"
    """The site took its resources away."""
    TIMED_OUT = "TIMED_OUT"
    """Ran into its time limit."""
    CANCELED = "CANCELED"
    """Surely dead, because we asked for it or never started it."""
    SUPERSEDED = "SUPERSEDED"
    """Another attempt won, and this one is surely dead or was never needed."""

    @property
    def final(self) -> bool:
        return self in _FINAL_ATTEMPTS


_FINAL_ATTEMPTS = frozenset(
    {
        AttemptState.SUCCEEDED,
        AttemptState.FAILED,
        AttemptState.PREEMPTED,
        AttemptState.TIMED_OUT,
        AttemptState.CANCELED,
        AttemptState.SUPERSEDED,
    }
)


class IllegalMove(RuntimeError):
    """A state may not follow another: a fault in the broker itself."""


_R, _S, _A = RunState, StageState, AttemptState
_ENDS = {_A.FAILED, _A.CANCELED, _A.SUPERSEDED}

RUN_MOVES: dict[RunState, frozenset[RunState]] = {
    _R.PENDING: frozenset({_R.RUNNING, _R.WAITING, _R.SUCCEEDED, _R.FAILED, _R.CANCELED}),
    _R.RUNNING: frozenset({_R.WAITING, _R.SUCCEEDED, _R.FAILED, _R.CANCELED}),
    _R.WAITING: frozenset({_R.RUNNING, _R.SUCCEEDED, _R.FAILED, _R.CANCELED}),
    _R.SUCCEEDED: frozenset(),
    _R.FAILED: frozenset({_R.RUNNING}),  # `retry` by a person
    _R.CANCELED: frozenset(),
}

STAGE_MOVES: dict[StageState, frozenset[StageState]] = {
    _S.WAITING: frozenset({_S.READY, _S.SKIPPED, _S.CANCELED}),
    _S.READY: frozenset({_S.ACTIVE, _S.AWAITING_DECISION, _S.FAILED, _S.CANCELED, _S.SUCCEEDED}),
    _S.ACTIVE: frozenset({_S.READY, _S.AWAITING_DECISION, _S.SUCCEEDED, _S.FAILED, _S.CANCELED}),
    _S.AWAITING_DECISION: frozenset({_S.READY, _S.ACTIVE, _S.SUCCEEDED, _S.FAILED, _S.CANCELED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset({_S.READY}),  # `retry` by a person
    _S.CANCELED: frozenset(),
    _S.SKIPPED: frozenset({_S.WAITING, _S.READY}),  # the stage it needs was retried
}

ATTEMPT_MOVES: dict[AttemptState, frozenset[AttemptState]] = {
    _A.PLANNED: frozenset({_A.STAGING_IN, _A.SUBMITTING} | _ENDS),
    _A.STAGING_IN: frozenset({_A.SUBMITTING, _A.SUCCEEDED} | _ENDS),  # at once over: what only moves data
    # a site may be seen to have run the job before its answer to the submission is known
    _A.SUBMITTING: frozenset(
        {_A.QUEUED, _A.RUNNING, _A.STAGING_OUT, _A.VERIFYING, _A.SUCCEEDED, _A.PREEMPTED, _A.TIMED_OUT} | _ENDS
    ),
    _A.QUEUED: frozenset({_A.RUNNING, _A.STAGING_OUT, _A.VERIFYING, _A.SUCCEEDED, _A.PREEMPTED, _A.TIMED_OUT} | _ENDS),
    # back to QUEUED: the site requeued it (its restart count grew)
    _A.RUNNING: frozenset({_A.QUEUED, _A.STAGING_OUT, _A.VERIFYING, _A.SUCCEEDED, _A.PREEMPTED, _A.TIMED_OUT} | _ENDS),
    _A.STAGING_OUT: frozenset({_A.VERIFYING, _A.SUCCEEDED} | _ENDS),
    _A.VERIFYING: frozenset({_A.SUCCEEDED} | _ENDS),
    _A.SUCCEEDED: frozenset(),
    _A.FAILED: frozenset(),
    _A.PREEMPTED: frozenset(),
    _A.TIMED_OUT: frozenset(),
    _A.CANCELED: frozenset(),
    _A.SUPERSEDED: frozenset(),
}

S = TypeVar("S", RunState, StageState, AttemptState)

_TABLES: Mapping[type[StrEnum], Mapping[StrEnum, frozenset[StrEnum]]] = {
    RunState: RUN_MOVES,  # type: ignore[dict-item]
    StageState: STAGE_MOVES,  # type: ignore[dict-item]
    AttemptState: ATTEMPT_MOVES,  # type: ignore[dict-item]
}


def may_move(old: S, new: S) -> bool:
    """Is `new` a lawful successor of `old`? Staying is not a move."""
    return new in _TABLES[type(old)][old]


def move(old: S, new: S) -> S:
    """`new`, if it may follow `old`; raises IllegalMove otherwise."""
    if not may_move(old, new):
        raise IllegalMove(f"{type(old).__name__}: {old} may not become {new}")
    return new


ENDS_WITH_ATTEMPT = ("stage_in", "submit", "cancel", "verify", "copy", "ask")
"""Kinds of effects that nobody wants any more once their attempt is over."""
