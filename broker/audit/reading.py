"""Reading a run whole, and checking it."""

from __future__ import annotations

from collections.abc import Sequence

from broker.audit import course as courses
from broker.audit import history as histories
from broker.audit import rules
from broker.audit import waiting as waits
from broker.audit.charges import RULE, charges
from broker.audit.course import course
from broker.audit.history import history
from broker.audit.rows import RunRows, Silence, Violation, failovers
from broker.audit.rules import audit
from broker.audit.waiting import waiting
from broker.store.base import EventRow, RunRow, Store

READS = 5
CHECKED = tuple(sorted({*rules.NAMES, *histories.NAMES, *courses.NAMES, *waits.NAMES, RULE}, key=lambda n: (len(n), n)))
"""Every invariant of which rows show something, by name."""


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
    return [*audit(rows), *history(rows), *course(rows), *waiting(rows), *charges(rows)]


def read_run(store: Store, run: RunRow) -> RunRows:
    """Everything that is stored about a run."""
    run_id = run.run_id
    events = store.events(run_id, limit=10_000_000)
    attempts = store.attempts(run_id)
    used = {row.site for row in attempts}
    asked = {row.site for row in attempts if row.open and row.orphan}
    asked |= {site for _, *sites in failovers(events) for site in sites if site}
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
        charges=store.money.charges(run_id),
        now=store.now(),
    )


def _silences(events: Sequence[EventRow]) -> Sequence[Silence]:
    found: list[Silence] = []
    for event in events:
        if event.kind == "silent" and (not found or found[-1].end is not None):
            found.append(Silence(event.at, None))
        elif event.kind == "answers" and found:
            found[-1] = found[-1]._replace(end=event.at)
    return found
