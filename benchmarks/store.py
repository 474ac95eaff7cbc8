"""What the store costs per stage, without engine, sites or Celery: `python benchmarks/store.py --batch 30`.

Carries a layered graph through the store as the broker does: create, then rounds of decide (place what is free,
settle what was seen to end) and record (submitted; exit seen and verified) in batches of about that size.
Prints CPU µs per stage, spent in the store and in this script together, commits and statements per stage.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from broker.clock import wall_clock
from broker.store.base import (
    AttemptRow,
    AttemptSeen,
    Changes,
    DecisionTx,
    DepRow,
    EffectDone,
    EffectRow,
    NewEvent,
    NewRun,
    ProductRow,
    RunRow,
    Sightings,
    StageRow,
)
from broker.store.sql import SqlStore
from sandbox.dagwork import make

DETAIL = json.dumps({"reasons": [["free_slots", "4 of 64", "ok"], ["prefer", "nersc", "first"]], "facts": {"q": 12}})
BODY = json.dumps({"run": "python recon.py --slices 0:64", "env": {"OMP_NUM_THREADS": "8"}, "resources": {"n": 1}})


def run_row(run_id: str, n: int, at: int) -> RunRow:
    return RunRow(
        run_id=run_id, name="bench", client_key=None, request_digest="d", state="RUNNING", reason="", ver=0,
        document_digest="d", source="", created_by="bench", created_at=at, ended_at=None, due_at=at,
        wake_sent_at=None, stages=n, unsettled=n, failed=0, open_attempts=0, held=0, commands=0, wants=0,
        cancel_requested_at=None, lease_owner=None, lease_token=0, lease_until=None,
    )  # fmt: skip


def stage_row(run_id: str, n: int, unmet: int, at: int) -> StageRow:
    return StageRow(
        run_id=run_id, n=n, path=f"stage{n}", state="WAITING", reason="", ver=0, epoch=0, unmet=unmet, doomed=0,
        due_at=None if unmet else at, rules=DETAIL, body=BODY, digest="d" * 64, attempt=0, site_retries=0,
        app_retries=0, failovers=0, continuations=0, memory_raises=0, stalled=0, not_before=None, avoid="[]",
        want="", ready_at=None, ended_at=None,
    )  # fmt: skip


def attempt_row(run_id: str, n: int, at: int) -> AttemptRow:
    return AttemptRow(
        run_id=run_id, n=n, number=1, epoch=1, site="nersc", state="SUBMITTING", ver=0, why="first", reason="",
        failure="", submit_key=f"cf{n}", digest="d" * 64, directory=f"runs/{run_id}/stage{n}/1", restore="", orphan=0,
        open=1, created_at=at, submitted_at=None, started_at=None, ended_at=None, stop_before=None,
        unreachable_since=None, cancel_requested_at=None, native_id="", staged="", answer="", job="", started="",
        exit="", verified="", dead="", seen_at=None,
    )  # fmt: skip


def effect_row(run_id: str, n: int, at: int) -> EffectRow:
    return EffectRow(
        key=f"submit:cf{n}", run_id=run_id, n=n, attempt=1, kind="submit", site="nersc", payload="{}",
        state="pending", created_at=at, due_at=at, tries=1, note="", claim="me", claim_until=at + 10**9,
        done_at=None, outcome="",
    )  # fmt: skip


class Walk:
    """One run on its way; plays engine, effects and watcher with as little work of its own as possible."""

    def __init__(self, store: SqlStore, n: int, batch: int) -> None:
        self.store = store
        self.batch = batch
        self.graph = make("layered", n)
        self.run_id = f"run-{n}"
        self.free = batch
        self.submitting: list[int] = []
        self.running: list[int] = []

    def create(self) -> None:
        at = wall_clock()
        self.store.create_run(
            NewRun(
                run=run_row(self.run_id, len(self.graph), at),
                document="{}",
                stages=[stage_row(self.run_id, n, len(parents), at) for n, parents in self.graph],
                deps=[DepRow(self.run_id, parent, n, 1) for n, parents in self.graph for parent in parents],
                events=[NewEvent(kind="accepted")],
            )
        )

    def carry(self) -> None:
        left = len(self.graph)
        while left:
            lease = self.store.acquire(self.run_id, owner="me", ttl=30)
            assert lease is not None
            with self.store.deciding(lease, ttl=30) as tx:
                for _ in range(2):
                    left -= self.decide(tx)
            self.store.release(lease, due_at=None)
            self.act()

    def decide(self, tx: DecisionTx) -> int:
        now = wall_clock()
        snapshot = tx.snapshot(now=now, limit=500, room=lambda _load: self.free)
        changes = Changes()
        for stage in snapshot.stages:
            attempts = snapshot.attempts[stage.n]
            if stage.state == "ACTIVE":
                self.look(changes, stage, attempts[0], now)
            elif stage.state != "SUCCEEDED":
                self.start(changes, stage, now)
        tx.apply(changes, now=now)
        self.free += len(changes.products)
        return len(changes.products)

    def start(self, changes: Changes, stage: StageRow, now: int) -> None:
        if not self.free:
            changes.stages.append(stage._replace(state="READY", due_at=None, ready_at=now))
            return
        self.free -= 1
        changes.stages.append(stage._replace(state="ACTIVE", due_at=None, ready_at=now, attempt=1, epoch=1))
        changes.new_attempts.append(attempt_row(self.run_id, stage.n, now))
        changes.effects.append(effect_row(self.run_id, stage.n, now))
        decision = ("placement", "nersc", DETAIL)
        changes.events.append(NewEvent(kind="placed", stage=stage.path, n=stage.n, attempt=1, decision=decision))
        self.submitting.append(stage.n)

    def look(self, changes: Changes, stage: StageRow, attempt: AttemptRow, now: int) -> None:
        if not attempt.verified:
            changes.attempts.append(attempt._replace(state="QUEUED", submitted_at=now))
            changes.stages.append(stage._replace(due_at=None))
            changes.events.append(NewEvent(kind="queued", stage=stage.path, n=stage.n, attempt=1))
            self.running.append(stage.n)
            return
        changes.attempts.append(attempt._replace(state="SUCCEEDED", open=0, ended_at=now))
        changes.stages.append(stage._replace(state="SUCCEEDED", due_at=None, ended_at=now))
        changes.products.append(
            ProductRow(self.run_id, stage.n, 1, 1, "nersc", attempt.directory, '{"files": []}', "d" * 64, 0, now)
        )
        changes.settled.append((stage.n, "ok"))
        changes.events.append(NewEvent(kind="succeeded", stage=stage.path, n=stage.n, attempt=1))

    def act(self) -> None:
        submitted, ended = self.submitting, self.running
        self.submitting, self.running = [], []
        if not submitted and not ended:
            return
        now = wall_clock()
        accepted: Mapping[str, str | int] = {"answer": '{"accepted": "j"}', "native_id": "j"}
        exited: Mapping[str, str | int] = {
            "job": '{"state": "COMPLETED"}', "exit": '{"code": 0}', "verified": '{"ok": true}', "seen_at": now,
        }  # fmt: skip
        self.store.record(
            Sightings(
                effects_done=[EffectDone(key=f"submit:cf{n}", claim="me", outcome="{}") for n in submitted],
                attempts=[
                    *(AttemptSeen(run_id=self.run_id, n=n, number=1, facts=accepted) for n in submitted),
                    *(AttemptSeen(run_id=self.run_id, n=n, number=1, facts=exited) for n in ended),
                ],
            ),
            now=now,
        )


def measure(n: int, batch: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        store = SqlStore.open(Path(folder) / "bench.db", clock=wall_clock)
        store.ensure_sites(["nersc", "alcf"])
        walk = Walk(store, n, batch)
        wall, cpu = time.perf_counter(), time.process_time()
        walk.create()
        created = time.process_time() - cpu
        commits, statements = store.counts.commits, store.counts.statements
        walk.carry()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        used = (store.counts.commits - commits) / n, (store.counts.statements - statements) / n
        row = store.run(walk.run_id)
        assert row is not None
        assert (row.unsettled, row.open_attempts) == (0, 0), row
        store.close()
    return (
        f"n={n} batch={batch}: {cpu / n * 1e6:.0f} us CPU/stage ({created / n * 1e6:.0f} of them to create), "
        f"{n / wall:.0f} stages/s, {used[0]:.2f} commits and {used[1]:.2f} statements per stage"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=30)
    options = parser.parse_args()
    measure(100, options.batch)
    print(measure(options.n, options.batch))


if __name__ == "__main__":
    main()
