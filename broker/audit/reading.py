"""Reading a run whole, and checking it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from broker.audit.course import course
from broker.audit.history import history
from broker.audit.rows import RunRows, Silence, Violation
from broker.audit.rules import audit
from broker.audit.waiting import waiting
from broker.store.base import EventRow, RunRow, Store

READS = 5


def audit_run(store: Store, run_id: str) -> list[Violation]:
    """Read a run whole, and check it. A run that changes meanwhile is read again, READS times at most."""
    for _ in range(READS):
        run = store.run(run_id)
        if run is None:
            return [Violation("I1", run_id, "there is no such run")]
        rows = read_run(store, run)
        after = store.run(run_id)
        if after is not None and (after.ver, after.commands) == (run.ver, run.commands):
            break
    return [*audit(rows), *history(rows), *course(rows), *waiting(rows)]


def read_run(store: Store, run: RunRow) -> RunRows:
    """Everything that is stored about a run."""
    run_id = run.run_id
    events = store.events(run_id, limit=10_000_000)
    attempts = store.attempts(run_id)
    used = {row.site for row in attempts}
    asked = {row.site for row in attempts if row.open and row.orphan}
    asked |= {site for event in events if event.kind == "failover" for site in _left_and_taken(event, events)}
    return RunRows(
        run=run,
        stages=store.stages(run_id),
        deps=store.deps(run_id),
        attempts=attempts,
        effects=store.effects(run_id),
        products=store.products(run_id),
        checkpoints=store.checkpoints(run_id),
        decisions=store.decisions(run_id),
        events=events,
        tip=store.tip(run_id),
        open_commands=sum(command.done_at is None for command in store.commands(run_id)),
        silences={site: _silences(store.events(f"site:{site}", limit=10_000_000)) for site in asked},
        sites={row.site: row for row in store.sites() if row.site in used},
        now=store.now(),
    )


def _left_and_taken(failover: EventRow, events: Sequence[EventRow]) -> Iterator[str]:
    """The site that a failover left, and the one that it went to, if it went on at once."""
    yield str(json.loads(failover.data).get("from", ""))
    after = next((e for e in events[failover.seq :] if e.stage == failover.stage and e.kind == "placed"), None)
    if after is not None:
        yield str(json.loads(after.data)["site"])


def _silences(events: Sequence[EventRow]) -> Sequence[Silence]:
    found: list[Silence] = []
    for event in events:
        if event.kind == "silent":
            found.append(Silence(event.at, None))
        elif event.kind == "answers" and found:
            found[-1] = found[-1]._replace(end=event.at)
    return found
