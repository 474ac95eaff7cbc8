"""What Slurm calls the states of a job, and the reasons for which one waits.

Sources: the words that squeue, sacct and the REST API (v0.0.36 to v0.0.44) use, by Slurm's manuals and its published
API schema. A word that is not here is UNKNOWN, with its text kept: Slurm has had new ones with most releases.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from connectors.model import JobState

STATES = {
    "PENDING": JobState.QUEUED,
    "CONFIGURING": JobState.QUEUED,
    "REQUEUED": JobState.QUEUED,
    "REQUEUE_FED": JobState.QUEUED,
    "RESV_DEL_HOLD": JobState.QUEUED,
    "REQUEUE_HOLD": JobState.HELD,
    "SPECIAL_EXIT": JobState.HELD,
    "RUNNING": JobState.RUNNING,
    "COMPLETING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "STAGE_OUT": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "EXPEDITING": JobState.QUEUED,
    "POWER_UP_NODE": JobState.QUEUED,
    "RECONFIG_FAIL": JobState.FAILED,
    # both hold what they have, checkpoints among it
    "SUSPENDED": JobState.RUNNING,
    "STOPPED": JobState.RUNNING,
    "COMPLETED": JobState.SUCCEEDED,
    "FAILED": JobState.FAILED,
    "BOOT_FAIL": JobState.NODE_FAILED,
    "NODE_FAIL": JobState.NODE_FAILED,
    "DEADLINE": JobState.TIMED_OUT,
    "TIMEOUT": JobState.TIMED_OUT,
    "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,
    "LAUNCH_FAILED": JobState.FAILED,
    "REVOKED": JobState.FAILED,
    "CANCELLED": JobState.CANCELED,
    "PREEMPTED": JobState.PREEMPTED,
}
_SHORT = {
    "PD": "PENDING", "CF": "CONFIGURING", "RQ": "REQUEUED", "RF": "REQUEUE_FED", "RD": "RESV_DEL_HOLD",
    "RH": "REQUEUE_HOLD", "SE": "SPECIAL_EXIT", "R": "RUNNING", "CG": "COMPLETING", "SI": "SIGNALING",
    "SO": "STAGE_OUT", "RS": "RESIZING", "S": "SUSPENDED", "ST": "STOPPED", "CD": "COMPLETED", "F": "FAILED",
    "BF": "BOOT_FAIL", "NF": "NODE_FAIL", "DL": "DEADLINE", "TO": "TIMEOUT", "OOM": "OUT_OF_MEMORY",
    "CA": "CANCELLED", "PR": "PREEMPTED", "RV": "REVOKED",
}  # fmt: skip

_LAST_WORDS = frozenset(word for word, state in STATES.items() if state.final)
_BACK_IN_QUEUE = ("REQUEUE_HOLD", "SPECIAL_EXIT", "REQUEUED", "REQUEUE_FED", "RESV_DEL_HOLD")
_HELD = frozenset({"JobHeldUser", "JobHeldAdmin", "job_requeued_in_held_state", "launch_failed_requeued_held"})

FATAL = frozenset(
    {
        "PartitionTimeLimit",
        "PartitionNodeLimit",
        "PartitionConfig",
        "PartitionInactive",
        "AccountNotAllowed",
        "AssocMaxWallDurationPerJobLimit",
        "AssocGrpWallLimit",
        "AssocMaxNodePerJobLimit",
        "AssocMaxCpuPerJobLimit",
        "AssociationJobLimit",
        "BadConstraints",
        "DependencyNeverSatisfied",
        "InvalidAccount",
        "InvalidQOS",
        "JobHeldAdmin",
        "MaxMemPerLimit",
        "QOSMaxCpuPerJobLimit",
        "QOSMaxNodePerJobLimit",
        "QOSMaxWallDurationPerJobLimit",
        "QOSNotAllowed",
        "QOSTimeLimit",
        "QOSUsageThreshold",
        "ReservationDeleted",
        "launch_failed_requeued_held",
        "launch failed requeued held",
    }
)
"""Reasons that time will not cure. `ReqNodeNotAvail` is none: a node comes back, a maintenance window passes."""


def state_of(words: str | Iterable[str], *, reason: str = "") -> tuple[JobState, str]:
    """What one word, or the list of a base state and flags, means; and the word that decided.

    A last word beats a flag of being back in the queue, which beats the base: ["PENDING", "REQUEUED"] waits,
    ["COMPLETED", "COMPLETING"] has ended. "CANCELLED by 1000" is CANCELLED.
    """
    found = [_plain(word) for word in ([words] if isinstance(words, str) else words)]
    found = [word for word in found if word]
    if not found:
        return JobState.UNKNOWN, ""
    last = next((word for word in found if word in _LAST_WORDS), None)
    back = next((word for word in _BACK_IN_QUEUE if word in found), None)
    word = last or back or next((word for word in found if word in STATES), found[0])
    state = STATES.get(word, JobState.UNKNOWN)
    if state is JobState.QUEUED and reason.replace(" ", "_") in _HELD:
        state = JobState.HELD
    return state, word


def fatal_reason(reason: str) -> str:
    """The reason, where waiting will not help; else empty."""
    plain = reason.strip().strip("()")
    return plain if plain in FATAL else ""


def _plain(word: object) -> str:
    text = str(word).strip().upper()
    text = re.split(r"[ +]", text, maxsplit=1)[0]
    return _SHORT.get(text, text)
