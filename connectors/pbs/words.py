"""What PBS calls the states of a job, how its exit statuses read, and which comments mean that it will never run.

A finished job is F whatever became of it: the exit status (256 and more: a signal; negative: PBS itself gave up) and
the comment tell the rest.
"""

from __future__ import annotations

import re

from connectors.model import JobState

STATES = {
    "Q": JobState.QUEUED,
    "W": JobState.QUEUED,
    "T": JobState.QUEUED,
    "M": JobState.QUEUED,
    "H": JobState.HELD,
    "R": JobState.RUNNING,
    "E": JobState.RUNNING,
    "B": JobState.RUNNING,
    # both hold what they have, checkpoints among it
    "S": JobState.RUNNING,
    "U": JobState.RUNNING,
}
ENDED = frozenset({"F", "X", "C"})
_SIGNAL = 256
_KILLED, _TERMINATED = 9, 15
_PREEMPTED = re.compile(r"at request of scheduler|preempt", re.IGNORECASE)
_TIMED_OUT = re.compile(r"walltime.*exceeded|exceeded.*walltime", re.IGNORECASE)
_MEMORY = re.compile(r"\b(v|p)?mem\b.*exceeded|exceeded.*\bmem|out of memory|oom", re.IGNORECASE)
_NEVER = re.compile(r"can never run|too many failed attempts", re.IGNORECASE)
_COMES_BACK = re.compile(r"\w+_fs\b")
"""A file system that is down: PBS says «never», and runs the job when it is back."""


def state_of(word: str, *, exit_status: int | None, comment: str = "", overtime: bool = False) -> JobState:
    """What a state word means. `overtime`: the job had used its walltime up."""
    if word not in ENDED:
        return STATES.get(word, JobState.UNKNOWN)
    if _PREEMPTED.search(comment):
        return JobState.PREEMPTED
    if exit_status is None:  # it never ran: somebody took it out of the queue
        return JobState.CANCELED
    if exit_status == 0:
        return JobState.SUCCEEDED
    if exit_status < 0:
        return JobState.NODE_FAILED
    if _MEMORY.search(comment):
        return JobState.OUT_OF_MEMORY
    signal = exit_status - _SIGNAL
    if _TIMED_OUT.search(comment) or (overtime and signal in {_KILLED, _TERMINATED}):
        return JobState.TIMED_OUT
    return JobState.CANCELED if signal in {_KILLED, _TERMINATED} else JobState.FAILED


def exit_of(exit_status: int | None) -> tuple[int | None, int | None]:
    """Exit code and signal."""
    if exit_status is None or exit_status < 0:
        return None, None
    return (None, exit_status - _SIGNAL) if exit_status > _SIGNAL else (exit_status, None)


def fatal_comment(comment: str) -> str:
    """The comment, where waiting will not help; else empty."""
    return comment[:300] if _NEVER.search(comment) and not _COMES_BACK.search(comment) else ""
