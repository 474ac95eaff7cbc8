"""What a submission brings beside its stages: whom it has told, and by when it is to be done."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from broker.alerts.allowed import NotifyConfig, why_not
from broker.alerts.rows import Entries
from broker.deadlines import RUN, DeadlineRow, new_deadline
from broker.errors import UsageError
from broker.spec import CompiledRun, RawDocument
from broker.spec.errors import KeyPath, Wrong
from broker.store.base import RunRow, StageRow

AHEAD = 300.0
"""Seconds by which an event may lie ahead: clocks differ."""
LONG_AGO = 366 * 86_400.0


def refuse_addresses(entries: Entries, raw: RawDocument, config: NotifyConfig, *, from_outside: bool) -> None:
    """Raises DocumentError for addresses that this installation does not let documents name."""
    wrongs: list[tuple[KeyPath, Wrong]] = []
    for i, (to, _) in enumerate(entries):
        wrong = why_not(to, config, from_outside=from_outside)
        if wrong is not None:
            wrongs.append((("notify", i, "to"), wrong))
    if wrongs:
        raise raw.refuse(wrongs)


def check_event_time(at: int, *, now: int) -> None:
    """Raises UsageError for a time at which nothing that a run is about can have happened."""
    ahead = (at - now) / 1e6
    if ahead > AHEAD:
        raise UsageError("that event has not happened yet", help="give the time at which it did, with its zone")
    if -ahead > LONG_AGO:
        raise UsageError("that event is more than a year ago", help="give its time as 2026-07-01T12:30:00Z")


def dated(compiled: CompiledRun, row: RunRow, stages: Sequence[StageRow]) -> tuple[RunRow, Sequence[DeadlineRow]]:
    """The run's row, knowing its deadlines; and those that are counted from now on, or from the event."""
    known: list[DeadlineRow] = []
    count = 0
    if compiled.deadline is not None:
        count = 1
        known.append(_begun(row, RUN, compiled.deadline))
        row = row._replace(deadline_at=known[0].at)
    for stage in stages:
        rule = _of_stage(stage.rules)
        if rule is not None:
            count += 1
            if rule["from"] != "ready" or stage.ready_at is not None:
                known.append(_begun(row, stage.n, rule))
    return row._replace(deadlines=count), known


def _begun(row: RunRow, n: int, rule: Mapping[str, Any]) -> DeadlineRow:
    event = row.event_at if rule["from"] == "event" else None
    since = row.created_at if event is None else event
    return new_deadline(row.run_id, n, within=rule["within"], since=since, on_miss=rule["on_miss"], now=row.created_at)


def _of_stage(rules: str) -> Mapping[str, Any] | None:
    if '"deadline":' not in rules:  # parsing ten thousand equal texts takes its time
        return None
    found: Mapping[str, Any] | None = json.loads(rules).get("deadline")
    return found
