"""What a round costs in commits and statements: they are what a store is slow by."""

from __future__ import annotations

import pytest
from store_kit import RUN, attempt_row, deciding, effect_row, new_run, product_row, stage_row

from broker.store.base import AttemptSeen, Changes, EffectDone, NewEvent, Sightings
from broker.store.sql import SqlStore


def spent(store: SqlStore, before: tuple[int, int]) -> tuple[int, int]:
    return store.counts.commits - before[0], store.counts.statements - before[1]


def counted(store: SqlStore) -> tuple[int, int]:
    return store.counts.commits, store.counts.statements


@pytest.mark.parametrize("count", [1, 30, 500])
def test_a_round_costs_as_many_statements_for_one_stage_as_for_many(store: SqlStore, count: int) -> None:
    store.ensure_sites(["nersc"])
    store.create_run(new_run(stages=[stage_row(n, state="READY") for n in range(count)]))
    start = counted(store)
    lease = store.acquire(RUN, owner="me", ttl=9)
    assert lease
    assert spent(store, start) == (1, 2)

    start = counted(store)
    with store.deciding(lease, ttl=9) as tx:
        seen = tx.snapshot(now=1, limit=500, room=lambda _load: count)
        placed = Changes(
            stages=[row._replace(state="ACTIVE", attempt=1) for row in seen.stages],
            new_attempts=[attempt_row(row.n) for row in seen.stages],
            effects=[effect_row(f"e{row.n}", row.n, claim="me", claim_until=99) for row in seen.stages],
            events=[NewEvent(kind="placed", n=row.n, decision=("placement", "nersc", "{}")) for row in seen.stages],
        )
        tx.apply(placed, now=1)
    assert len(seen.stages) == count
    # run, due, sites, load, notices, queue; run, journey, stages, attempts, effects; tip, events, decisions, tip
    assert spent(store, start) == (1, 15)

    start = counted(store)
    facts = {"native_id": "j"}
    store.record(
        Sightings(
            effects_done=[EffectDone(key=f"e{n}", claim="me", outcome="{}") for n in range(count)],
            attempts=[AttemptSeen(run_id=RUN, n=n, number=1, facts=facts) for n in range(count)],
        ),
        now=2,
    )
    # effects, runs' hints, stages' hints, attempts, effects; on a server before them the effects' runs, which it holds
    assert spent(store, start) == (1, 5 if store._database.sqlite else 7)

    start = counted(store)
    assert store.release(lease, due_at=None)
    assert spent(store, start) == (1, 2)


def test_two_rounds_in_one_decision_are_one_commit_and_read_the_sites_once(store: SqlStore) -> None:
    store.create_run(new_run([(), (0,)]))
    with deciding(store) as tx:
        seen = tx.snapshot(now=1, limit=9, room=lambda _load: 0)
        rows = [row._replace(state="SUCCEEDED", due_at=None) for row in seen.stages]
        start = counted(store)
        tx.apply(Changes(stages=rows, settled=[(0, "ok")], products=[product_row(0)]), now=1)
        # children, run, stages, product, children
        assert spent(store, start) == (0, 5)
        start = counted(store)
        again = tx.snapshot(now=1, limit=9, room=lambda _load: 0)
        # due, queue, journey, run
        assert spent(store, start) == (0, 4)
        assert [row.n for row in again.stages] == [1]
        start = counted(store)
    assert spent(store, start) == (1, 0)
