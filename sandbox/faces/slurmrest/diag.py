"""What the scheduler counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.model import JobState
from sandbox.faces.slurmrest.form import Form
from sandbox.facility import JobView

_COUNTERS = (
    "agent_queue_size", "agent_count", "agent_thread_count", "dbd_agent_queue_size", "gettimeofday_latency",
    "schedule_cycle_max", "schedule_cycle_last", "schedule_cycle_total", "schedule_cycle_mean",
    "schedule_cycle_mean_depth", "schedule_cycle_per_minute", "bf_backfilled_jobs", "bf_last_backfilled_jobs",
    "bf_backfilled_het_jobs", "bf_cycle_counter", "bf_cycle_mean", "bf_depth_mean", "bf_depth_mean_try",
    "bf_cycle_last", "bf_cycle_max", "bf_queue_len", "bf_queue_len_mean", "bf_table_size", "bf_table_size_mean",
)  # fmt: skip


_NEWER_COUNTERS = (
    "schedule_cycle_sum", "schedule_cycle_depth", "bf_cycle_sum", "bf_depth_sum", "bf_depth_try_sum", "bf_last_depth",
    "bf_last_depth_try", "bf_queue_len_sum", "bf_table_size_sum",
)  # fmt: skip
_SCHEDULE_ENDS = ("end_job_queue", "default_queue_depth", "max_job_start", "max_rpc_cnt", "max_sched_time", "licenses")
_BACKFILL_ENDS = ("end_job_queue", "bf_max_job_start", "bf_max_job_test", "bf_max_time", "bf_node_space_size",
                  "state_changed")  # fmt: skip


def _newer_statistics() -> Mapping[str, Any]:
    return {
        **dict.fromkeys(_NEWER_COUNTERS, 0),
        "schedule_exit": dict.fromkeys(_SCHEDULE_ENDS, 0),
        "bf_exit": dict.fromkeys(_BACKFILL_ENDS, 0),
        "pending_rpcs": [],
        "pending_rpcs_by_hostlist": [],
    }


def statistics(jobs: Sequence[JobView], form: Form, now: int) -> Mapping[str, Any]:
    states = Counter(view.state for view in jobs)
    waiting = states[JobState.QUEUED] + states[JobState.HELD]
    ended = sum(count for state, count in states.items() if state.final)
    failed = ended - states[JobState.SUCCEEDED] - states[JobState.CANCELED]
    return {
        **dict.fromkeys(_COUNTERS, 0),
        **({} if form.plain else _newer_statistics()),
        "parts_packed": 1,
        "req_time": form.time(now),
        "req_time_start": form.time(now - 3_600_000_000),
        "job_states_ts": form.time(now),
        "bf_when_last_cycle": form.time(now),
        "server_thread_count": 1,
        "schedule_queue_length": waiting,
        "jobs_submitted": len(jobs),
        "jobs_started": len(jobs) - waiting,
        "jobs_completed": states[JobState.SUCCEEDED],
        "jobs_canceled": states[JobState.CANCELED],
        "jobs_failed": failed,
        "jobs_pending": waiting,
        "jobs_running": states[JobState.RUNNING],
        "bf_active": False,
        "rpcs_by_message_type": [],
        "rpcs_by_user": [],
    }
