"""What a play cost, from the sites' own books, which no broker reads, and from the rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from broker.drill.document import Carrying
from broker.drill.ground import TURNS
from broker.drill.play import Played
from broker.facts import rules_of
from broker.store.base import AttemptRow
from broker.traffic.turn import SLOWER
from policies.intervals import URGENT, young
from sandbox.job import Execution

HOUR = 3600.0
LOOKS = 8
"""Polls within which a checkpoint is seen, found good, and its copy sent and seen to have arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Durations: seconds."""

    state: str
    span: float
    """From the start to the end of the run; or to the limit."""
    recovery: float | None
    """The longest, from a fault until a stage that it hit worked again; None: no stage was hit."""
    unrecovered: int
    """Stages that were hit and never worked again."""
    lost: float
    """Work that is in no result: done twice, or in vain."""
    shipping: float
    """What `lost: shipping` allows."""
    node_seconds: float
    wasted: float
    """Node seconds that are in no result."""
    attempts: int
    moves: int
    restores: int
    copies: int
    """Checkpoints that were sent elsewhere."""
    double_submissions: int
    products: int
    alerts: int
    reaped: int
    adopted: int
    within: Mapping[str, float | None]
    """By stage, from ready to its result; None: there is none."""


def measure(played: Played, carrying: Carrying) -> Figures:
    """All of it."""
    store, run_id, start = played.ground.store, played.run_id, played.ground.start
    rows, decisions = store.attempts(run_id), store.decisions(run_id)
    products = {product.n for product in store.products(run_id)}
    works = _works(played)
    done = {stage.path for stage in store.stages(run_id) if stage.n in products}
    recoveries = [(hit.back_at - hit.fault.at) / 1e6 for hit in played.hits if hit.back_at is not None]
    spent = sum(_node_seconds(played, run) for runs in works.values() for run in runs)
    useful = sum(_nodes(runs[0]) * runs[0].job.papers.payload.seconds for path, runs in works.items() if path in done)
    return Figures(
        state=played.ground.state(run_id),
        span=(played.over_at - start) / 1e6,
        recovery=max(recoveries, default=None),
        unrecovered=sum(hit.back_at is None for hit in played.hits),
        lost=sum(_lost(played, runs, done=path in done) for path, runs in works.items()),
        shipping=_shipping(played, carrying),
        node_seconds=spent,
        wasted=max(0.0, spent - useful),
        attempts=len(rows),
        moves=sum(_moved(rows)),
        restores=sum(bool(row.restore) for row in rows),
        copies=sum((row.kind, row.outcome) == ("ship", "ship") for row in decisions),
        double_submissions=sum(
            count - 1 for site in played.ground.sites.values() for count in site.model.journal.submissions().values()
        ),
        products=len(products),
        alerts=_alerts(played),
        reaped=sum(bool(row.orphan) and row.state in ("CANCELED", "SUPERSEDED") for row in rows),
        adopted=_adopted(played),
        within=_within(played),
    )


def _works(played: Played) -> dict[str, list[Execution]]:
    """What really ran, by stage, in order of its start."""
    found: dict[str, list[Execution]] = {}
    for site in played.ground.sites.values():
        for run in site.model.journal.executions:
            if run.began and run.key in played.troubles.stages:
                found.setdefault(played.troubles.stages[run.key], []).append(run)
    return {path: sorted(runs, key=lambda run: run.started_at) for path, runs in found.items()}


def _lost(played: Played, runs: list[Execution], *, done: bool) -> float:
    """Without a result: all but what the farthest one reached."""
    now = played.ground.clock()
    ends = [min(run.ended_at if run.ended_at is not None else now, now) for run in runs]
    worked = sum(max(0.0, run.work_done(end) - run.progress) for run, end in zip(runs, ends, strict=True))
    reached = max(run.work_done(end) for run, end in zip(runs, ends, strict=True))
    kept = runs[0].job.papers.payload.seconds if done else reached
    return max(0.0, worked - kept)


def _nodes(run: Execution) -> int:
    return max(1, run.job.spec.resources.nodes)


def _node_seconds(played: Played, run: Execution) -> float:
    end = run.ended_at if run.ended_at is not None else played.ground.clock()
    return _nodes(run) * (end - run.started_at) / 1e6


def _moved(rows: Sequence[AttemptRow]) -> Iterator[bool]:
    """Of each attempt: is it at another site than the stage's one before?"""
    before: dict[int, str] = {}
    for row in sorted(rows, key=lambda row: (row.n, row.number)):
        yield bool(row.site) and before.get(row.n, row.site) != row.site
        before[row.n] = row.site


def _shipping(played: Played, carrying: Carrying) -> float:
    """Of each stage that was hit: a copy leaves once in Young's interval for what it costs, it is on its way, and a
    checkpoint is seen and found good some looks after it was written."""
    bound = 0.0
    for hit in played.hits:
        if hit.run.alive or hit.run.how == "done":
            continue  # it lived on
        config = played.ground.configs[hit.fault.site]
        payload = hit.run.job.papers.payload
        row = played.ground.store.attempt_by_key(hit.run.key)
        rules = next(s.rules for s in played.ground.store.stages(played.run_id) if row is not None and s.n == row.n)
        turns = TURNS * SLOWER
        copy = carrying.latency + payload.checkpoint_bytes / carrying.rate + turns
        weight = URGENT if "urgent" in rules_of(rules).lane else 1.0
        interval = young(copy, config.losses_every, weight=weight)
        bound += interval + copy + payload.checkpoint_every + LOOKS * config.poll
    return bound


def _alerts(played: Played) -> int:
    store = played.ground.store
    return sum(e.kind == "self_doubt" for name in played.ground.sites for e in store.events(f"site:{name}"))


def _adopted(played: Played) -> int:
    told = played.ground.store.events(played.run_id)
    return sum(e.kind == "published" and bool(json.loads(e.data).get("adopted")) for e in told)


def _within(played: Played) -> dict[str, float | None]:
    """From the moment in which all that a stage needs was there. Not from its row's: that one moves with each try."""
    store = played.ground.store
    made = {product.n: product.published_at for product in store.products(played.run_id)}
    ready = dict.fromkeys((stage.n for stage in store.stages(played.run_id)), played.ground.start)
    for dep in store.deps(played.run_id):
        ready[dep.child] = max(ready[dep.child], made.get(dep.parent, 0))
    return {
        stage.path: (made[stage.n] - ready[stage.n]) / 1e6 if stage.n in made else None
        for stage in store.stages(played.run_id)
    }
