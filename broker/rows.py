"""Fresh rows, as a submission or an expansion makes them."""

from __future__ import annotations

from broker.facts import is_copy
from broker.states import StageState
from broker.store.base import StageRow


def stage_row(run_id: str, n: int, path: str, rules: str, body: str, digest: str, unmet: int, now: int) -> StageRow:
    """A stage that nothing has happened to yet; `unmet`: how many stages it needs."""
    ready = unmet == 0
    # what only moves data is in no queue for a place at a site: it is looked at by its time
    return StageRow(
        run_id=run_id,
        n=n,
        path=path,
        state=(StageState.READY if ready else StageState.WAITING).value,
        reason="",
        ver=0,
        epoch=0,
        unmet=unmet,
        doomed=0,
        due_at=now if ready and is_copy(body) else None,
        rules=rules,
        body=body,
        digest=digest,
        attempt=0,
        site_retries=0,
        app_retries=0,
        failovers=0,
        continuations=0,
        memory_raises=0,
        stalled=0,
        not_before=None,
        avoid="",
        want="",
        ready_at=now if ready else None,
        ended_at=None,
    )
