"""The names that fault scripts may use: who makes each fault happen, and what may be said of it.

The tables of docs/reference/sandbox-faults.md hold the same names; a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from sandbox.faults import FaultKind


class By(Enum):
    """Who makes a fault happen, and with that what a rule of it may be matched with."""

    SERVER = "server"
    """The server before any face: matched by request."""
    FACE = "face"
    """One face: matched by request."""
    JOB = "job"
    """The facility, to a job: matched by the job's name."""
    TIME = "time"
    """The facility, at a time."""
    TASK = "task"
    """Globus, to a task or to one of its files: matched by the task's label, a space, and the file's path."""
    COLLECTION = "collection"
    """Globus, to collections, at a time."""


@dataclass(frozen=True, slots=True)
class Name:
    """One fault: who makes it, and the parameters it has."""

    by: By
    words: tuple[str, ...] = ()


_REPLY = ("handled",)

NAMES: Mapping[str, Name] = {
    # -- any face, by the server ---------------------------------------------------------------------------
    "request_lost": Name(By.SERVER),
    "reply_lost": Name(By.SERVER),
    "delay": Name(By.SERVER, ("delay", "handled")),
    "drip": Name(By.SERVER, ("pause", "piece")),
    "truncated": Name(By.SERVER, ("bytes",)),
    "status": Name(By.SERVER, ("code", "retry_after", "text", "kind", "handled")),
    "unauthorized": Name(By.SERVER, _REPLY),
    "forbidden": Name(By.SERVER, _REPLY),
    "html": Name(By.SERVER, ("code", "handled")),
    "garbage": Name(By.SERVER, ("text", "code", "kind", "handled")),
    "huge": Name(By.SERVER, ("bytes", "handled")),
    "redirect": Name(By.SERVER, ("to", "code", "handled")),
    # -- one face ------------------------------------------------------------------------------------------
    "status_error": Name(By.FACE, ("text", "handled")),
    "task_error": Name(By.FACE, ("text",)),
    "task_forgotten": Name(By.FACE),
    "task_stuck": Name(By.FACE),
    "cached": Name(By.FACE, ("age",)),
    "timeout_408": Name(By.FACE, ("handled",)),
    "idempotency": Name(By.FACE, ("answer",)),
    "status_word": Name(By.FACE, ("word", "resource", "text")),
    "stale_feed": Name(By.FACE, ("age",)),
    "token_expiry": Name(By.FACE, ("in",)),
    "watch_gone": Name(By.FACE),
    "partial_listing": Name(By.FACE, ("hidden",)),
    "consent_required": Name(By.FACE, ("collection",)),
    "session_needed": Name(By.FACE, ("parameters",)),
    "login_failed": Name(By.FACE),
    "globus_error": Name(By.FACE, ("code", "status", "text", "handled")),
    "tokens_revoked": Name(By.FACE),
    # -- a task of Globus -----------------------------------------------------------------------------------
    "stall": Name(By.TASK, ("seconds",)),
    "task_trouble": Name(By.TASK, ("code", "text", "side")),
    "task_fatal": Name(By.TASK),
    "corrupt": Name(By.TASK),
    "source_changes": Name(By.TASK),
    "cancel_late": Name(By.TASK, ("seconds",)),
    # -- collections of Globus, by the clock ------------------------------------------------------------------
    "collection_down": Name(By.COLLECTION, ("collection", "code")),
    "collection_slow": Name(By.COLLECTION, ("collection", "rate")),
    "collection_paused": Name(By.COLLECTION, ("collection", "message")),
    "collection_full": Name(By.COLLECTION, ("collection", "room")),
    "collection_readonly": Name(By.COLLECTION, ("collection",)),
    "login_expired": Name(By.COLLECTION, ("collection",)),
    "login_hidden": Name(By.COLLECTION, ("collection",)),
    "session_required": Name(By.COLLECTION, ("collection", "parameters")),
    "history_purged": Name(By.COLLECTION, ("older",)),
    # -- a job, by the facility ----------------------------------------------------------------------------
    "refuse": Name(By.JOB, ("kind", "text")),
    "image_pull": Name(By.JOB),
    "unschedulable": Name(By.JOB),
    "conflict": Name(By.JOB),
    "forget": Name(By.JOB),
    "hide": Name(By.JOB, ("seconds",)),
    "stuck": Name(By.JOB, ("reason",)),
    "unknown_word": Name(By.JOB, ("word", "after", "seconds")),
    "ignore_cancel": Name(By.JOB),
    "preempt": Name(By.JOB, ("after", "notice", "requeue")),
    "node_fail": Name(By.JOB, ("after", "requeue")),
    "time_out": Name(By.JOB, ("after",)),
    "deadline": Name(By.JOB, ("after",)),
    "out_of_memory": Name(By.JOB, ("after",)),
    "boot_fail": Name(By.JOB, ("after",)),
    # -- the facility, by the clock -------------------------------------------------------------------------
    "outage": Name(By.TIME, ("resource", "planned", "degraded", "description", "stops")),
    **{
        kind.name: Name(By.TIME, words)
        for kind, words in {
            FaultKind.partition: ("capabilities",),
            FaultKind.compute_down: ("requeue",),
            FaultKind.disks_gone: ("wiped",),
            FaultKind.site_lost: (),
            FaultKind.slow: ("factor",),
            FaultKind.preemption: ("count", "notice", "requeue"),
            FaultKind.node_failure: ("count", "requeue"),
            FaultKind.controller_crash: ("memory",),
            FaultKind.accounting_purged: (),
        }.items()
    },
}
TIMED = frozenset({By.TIME, By.COLLECTION})
"""Happen by the clock: `at` and `for`."""
MATCHERS: Mapping[By, frozenset[str]] = {
    By.SERVER: frozenset({"face", "method", "path"}),
    By.FACE: frozenset({"face", "method", "path"}),
    By.JOB: frozenset({"job"}),
    By.TIME: frozenset(),
    By.TASK: frozenset({"job"}),
    By.COLLECTION: frozenset(),
}
