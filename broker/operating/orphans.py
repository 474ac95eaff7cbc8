"""Copies of stages that were left behind, and may still live."""

from __future__ import annotations

from broker.service import Service
from broker.views import View, attempt_state, when


def orphans_of(service: Service, target: str | None = None) -> list[View]:
    """All that are open, of a run or of all, those begun first first. Raises NotFound."""
    store = service.store
    run_id = service.find(target)[0].run_id if target else ""
    rows = [row for name in service.sites.configs for row in store.open_attempts(name) if row.orphan]
    wanted = sorted((row for row in rows if run_id in ("", row.run_id)), key=lambda row: (row.created_at, row.number))
    return [
        {
            "attempt": f"{row.run_id}/{store.stages_at(row.run_id, [row.n])[row.n].path}@{row.number}",
            "site": row.site,
            "state": attempt_state(row),
            "since": when(row.submitted_at or row.created_at),
            "end_asked_at": when(row.cancel_requested_at),
            "native_id": row.native_id or None,
            "reason": row.reason,
        }
        for row in wanted
    ]
