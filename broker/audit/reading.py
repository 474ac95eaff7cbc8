"""Reading a run whole, and checking it."""

from __future__ import annotations

import json

from broker.audit.history import history
from broker.audit.rows import RunRows, Violation
from broker.audit.rules import audit
from broker.store.base import RunRow, Store

READS = 5


def audit_run(store: Store, run_id: str) -> list[Violation]:
    """Read a run whole, and check it. A run that changes meanwhile is read again, READS times at most."""
    for _ in range(READS):
        run = store.run(run_id)
        if run is None:
            return [Violation("I1", run_id, "there is no such run")]
        rows = _read(store, run)
        after = store.run(run_id)
        if after is not None and (after.ver, after.commands) == (run.ver, run.commands):
            break
    return [*audit(rows), *history(rows)]


def _read(store: Store, run: RunRow) -> RunRows:
    run_id = run.run_id
    events = store.events(run_id, limit=10_000_000)
    left = {str(json.loads(event.data).get("from", "")) for event in events if event.kind == "failover"}
    silent = {site: [e.at for e in store.events(f"site:{site}") if e.kind == "silent"] for site in left}
    return RunRows(
        run=run,
        stages=store.stages(run_id),
        deps=store.deps(run_id),
        attempts=store.attempts(run_id),
        effects=store.effects(run_id),
        products=store.products(run_id),
        checkpoints=store.checkpoints(run_id),
        decisions=store.decisions(run_id),
        events=events,
        tip=next((tip for name, _, tip in store.streams() if name == run_id), ""),
        open_commands=sum(command.done_at is None for command in store.commands(run_id)),
        silences={site: min(times) for site, times in silent.items() if times},
    )
