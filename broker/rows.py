"""Fresh rows, as a submission or an expansion makes them."""

from __future__ import annotations

from broker.facts import is_copy, rules_of
from broker.spec import CompiledRun
from broker.states import RunState, StageState
from broker.store.base import DepRow, RunRow, StageRow


def run_row(run_id: str, *, name: str, digest: str, stages: int, by: str, now: int) -> RunRow:
    """A run that nothing has happened to yet; `digest`: of its document and of what was asked for, which is one and the
    same; `stages`: how many; `by`: who has submitted it."""
    return RunRow(
        run_id=run_id,
        name=name,
        client_key=None,
        request_digest=digest,
        state=RunState.PENDING.value,
        reason="",
        ver=0,
        document_digest=digest,
        source="",
        created_by=by,
        created_at=now,
        ended_at=None,
        due_at=now,
        wake_sent_at=None,
        stages=stages,
        unsettled=stages,
        failed=0,
        open_attempts=0,
        held=0,
        commands=0,
        wants=0,
        cancel_requested_at=None,
        lease_owner=None,
        lease_token=0,
        lease_until=None,
    )


def stage_row(run_id: str, n: int, path: str, rules: str, body: str, digest: str, unmet: int, now: int) -> StageRow:
    """A stage that nothing has happened to yet; `unmet`: how many stages it needs."""
    skipped = '"skip":' in rules and bool(rules_of(rules).skip)  # it is never READY: the first look ends it
    ready = unmet == 0 and not skipped
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
        due_at=now if not unmet and (skipped or is_copy(body)) else None,
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


def rows_of(made: CompiledRun, run_id: str, *, now: int) -> tuple[list[StageRow], list[DepRow]]:
    """The stages of a workflow that was just compiled, and what each of them needs."""
    stages = [
        stage_row(run_id, n, s.path, s.rules, s.body, s.digest, len(s.needs), now) for n, s in enumerate(made.stages)
    ]
    deps = [
        DepRow(run_id, parent, n, int(parent in stage.input_needs))
        for n, stage in enumerate(made.stages)
        for parent in stage.needs
    ]
    return stages, deps
