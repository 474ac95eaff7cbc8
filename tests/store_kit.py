"""Rows and small stories for the tests of the store. Everything is a default until a test says otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from broker.store.base import (
    AttemptRow,
    Changes,
    CheckpointRow,
    CommandRow,
    DecisionTx,
    DepRow,
    EffectRow,
    NewEvent,
    NewRun,
    ProductRow,
    RunRow,
    Snapshot,
    StageRow,
    Store,
)

TTL = 30.0
RUN = "260101-000000-aaaaaaaa"


def run_row(run_id: str = RUN, **said: Any) -> RunRow:
    values: dict[str, Any] = {
        **dict.fromkeys(RunRow._fields, ""),
        **RunRow._field_defaults,
        **dict.fromkeys(
            ("client_key", "ended_at", "due_at", "wake_sent_at", "cancel_requested_at", "lease_owner", "lease_until")
        ),
        **dict.fromkeys(
            (
                "ver",
                "created_at",
                "stages",
                "unsettled",
                "failed",
                "open_attempts",
                "held",
                "commands",
                "wants",
                "at_once",
                "in_line",
            ),
            0,
        ),
        "run_id": run_id,
        "name": "tomo",
        "request_digest": "asked",
        "state": "PENDING",
        "lease_token": 0,
    }
    return RunRow(**{**values, **said})


def stage_row(n: int, run_id: str = RUN, **said: Any) -> StageRow:
    texts = ("path", "state", "reason", "rules", "body", "digest", "avoid", "want")
    times = ("due_at", "not_before", "ready_at", "ended_at")
    values = {
        **dict.fromkeys(StageRow._fields, 0),
        **dict.fromkeys(texts, ""),
        **dict.fromkeys(times),
        "run_id": run_id,
        "n": n,
        "path": f"s{n}",
        "state": "WAITING",
    }
    return StageRow(**{**values, **said})


def attempt_row(n: int, number: int = 1, run_id: str = RUN, **said: Any) -> AttemptRow:
    times = ("submitted_at", "started_at", "ended_at", "stop_before", "unreachable_since", "cancel_requested_at")
    values = {
        **dict.fromkeys(AttemptRow._fields, ""),
        **dict.fromkeys((*times, "seen_at", "asked_at")),
        **dict.fromkeys(("ver", "orphan", "created_at"), 0),
        "run_id": run_id,
        "n": n,
        "number": number,
        "epoch": number,
        "site": "nersc",
        "state": "PLANNED",
        "submit_key": f"cf-{run_id}-{n}-{number}",
        "open": 1,
    }
    return AttemptRow(**{**values, **said})


def effect_row(key: str, n: int = 0, run_id: str = RUN, **said: Any) -> EffectRow:
    values = {
        **dict.fromkeys(EffectRow._fields, ""),
        **dict.fromkeys(("claim_until", "done_at")),
        "key": key,
        "run_id": run_id,
        "n": n,
        "attempt": 1,
        "kind": "submit",
        "site": "nersc",
        "payload": "{}",
        "state": "pending",
        "created_at": 0,
        "due_at": 0,
        "tries": 0,
    }
    return EffectRow(**{**values, **said})


def product_row(n: int, attempt: int = 1, run_id: str = RUN) -> ProductRow:
    return ProductRow(run_id, n, attempt, attempt, "nersc", f"s{n}/{attempt}", '{"files": []}', "d", 0, 5)


def checkpoint_row(n: int, seq: int, **said: Any) -> CheckpointRow:
    row = CheckpointRow(RUN, n, 1, 1, seq, "nersc", "seen", f"g1/{seq}", "", 0, 7, None, "")
    return row._replace(**said)


def command_row(key: str, run_id: str = RUN, **said: Any) -> CommandRow:
    return CommandRow(key, run_id, "", "hold", "{}", "ann", "", 50, None, "")._replace(**said)


def new_run(
    needs: Sequence[Sequence[int]] = ((),), run_id: str = RUN, *, stages: Sequence[StageRow] = (), **said: Any
) -> NewRun:
    """A run of as many stages as `needs` has entries, each the numbers of the stages it needs."""
    rows = stages or [
        stage_row(n, run_id, unmet=len(parents), due_at=None if parents else 0) for n, parents in enumerate(needs)
    ]
    deps = [DepRow(run_id, parent, n, 1) for n, parents in enumerate(needs) for parent in parents]
    row = run_row(run_id, **{"due_at": 0, "stages": len(rows), "unsettled": len(rows), **said})
    return NewRun(run=row, document='{"stages": {}}', stages=rows, deps=deps, events=[NewEvent(kind="accepted")])


@contextmanager
def deciding(store: Store, run_id: str = RUN, owner: str = "me") -> Iterator[DecisionTx]:
    """A decision under a lease taken for it; the lease is not given back."""
    lease = store.acquire(run_id, owner=owner, ttl=TTL)
    assert lease is not None
    with store.deciding(lease, ttl=TTL) as tx:
        yield tx


def apply(store: Store, changes: Changes, *, now: int = 10, run_id: str = RUN) -> None:
    with deciding(store, run_id) as tx:
        tx.apply(changes, now=now)


def look(store: Store, *, now: int = 10, limit: int = 100, room: int = 0, run_id: str = RUN) -> Snapshot:
    with deciding(store, run_id) as tx:
        return tx.snapshot(now=now, limit=limit, room=lambda _load: room)


def stage_of(store: Store, n: int, run_id: str = RUN) -> StageRow:
    return store.stages_at(run_id, [n])[n]


def run_of(store: Store, run_id: str = RUN) -> RunRow:
    row = store.run(run_id)
    assert row is not None
    return row


def quiet(store: Store, *stages: int, run_id: str = RUN) -> None:
    """Take the hints off these stages, so that a test sees new ones."""
    rows = [stage_of(store, n, run_id)._replace(due_at=None) for n in stages]
    apply(store, Changes(stages=rows), run_id=run_id)
