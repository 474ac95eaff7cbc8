"""What must hold of a run's rows at any moment between two transactions. Pure, but for reading the rows.

`crossfade db check`, the benchmarks and the simulation's tests use the same rules. A rule is named for the invariant
that it sees part of:

I1   at most one product per stage, and of an attempt that succeeded; a stage that succeeded has its product
I2   a product carries its attempt's epoch; one that was not adopted, its stage's
I3   attempts are numbered from 1 without gaps, their epochs never fall, and the stage knows the newest
I4   what was submitted had its effect, with its key, committed before
I5   at most one attempt per stage is open without being an orphan, and it is the current one; keys are unique
I6   a stage whose copies may not overlap has no open copy beside its current attempt
I7   an attempt is open as long as its state is not final, and of a run that is over only what is left behind is open
I8   a run that has something to do is due, or something is under way for it
I12  a state that waits for an effect has that effect; what is over wants none any more
I14  a product's files have been verified
I15  a restart uses a checkpoint that was verified
I18  every attempt has the decision that placed it, and every further one a decision why
I19  the run's chain of events holds
I23  after a cancel was carried out, no product and no new attempt
counters   the run's and the stages' counts are what the rows say
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from broker.states import AttemptState, RunState, StageState
from broker.store.audit import verify_chain
from broker.store.base import (
    AttemptRow,
    CheckpointRow,
    DecisionRow,
    DepRow,
    EffectRow,
    EventRow,
    ProductRow,
    RunRow,
    StageRow,
    Store,
)

_A, _S = AttemptState, StageState
_WAITS_FOR = {_A.STAGING_IN: "stage_in", _A.SUBMITTING: "submit", _A.VERIFYING: "verify"}
_MAY_NOT_REMAIN = ("stage_in", "submit", "cancel")


class Violation(NamedTuple):
    """Something that must never be."""

    rule: str
    where: str
    """The run, or RUN/STAGE, or RUN/STAGE@N."""
    what: str


@dataclass(frozen=True, kw_only=True)
class RunRows:
    """Everything that is stored about one run, as of one moment."""

    run: RunRow
    stages: Sequence[StageRow]
    deps: Sequence[DepRow]
    attempts: Sequence[AttemptRow]
    effects: Sequence[EffectRow]
    products: Sequence[ProductRow]
    checkpoints: Sequence[CheckpointRow]
    decisions: Sequence[DecisionRow]
    events: Sequence[EventRow]
    tip: str
    """Of the chain of events."""

    @cached_property
    def by_stage(self) -> Mapping[int, Sequence[AttemptRow]]:
        """Attempts of each stage, by number."""
        grouped: dict[int, list[AttemptRow]] = defaultdict(list)
        for attempt in sorted(self.attempts, key=lambda row: row.number):
            grouped[attempt.n].append(attempt)
        return grouped

    @cached_property
    def stage_at(self) -> Mapping[int, StageRow]:
        return {stage.n: stage for stage in self.stages}

    @cached_property
    def effect_at(self) -> Mapping[str, EffectRow]:
        return {effect.key: effect for effect in self.effects}

    @cached_property
    def rules_at(self) -> Mapping[int, Mapping[str, Any]]:
        """The rules of each stage; equal texts are read once."""
        read = {text: json.loads(text) for text in {stage.rules for stage in self.stages}}
        return {stage.n: read[stage.rules] for stage in self.stages}

    def name(self, n: int, number: int = 0) -> str:
        """RUN/STAGE@N."""
        stage = self.stage_at.get(n)
        path = f"{self.run.run_id}/{stage.path if stage else f'#{n}'}"
        return f"{path}@{number}" if number else path


def audit_run(store: Store, run_id: str) -> list[Violation]:
    """Read a run whole, and check it. While somebody serves it, rows read at different moments may disagree."""
    run = store.run(run_id)
    if run is None:
        return [Violation("I1", run_id, "there is no such run")]
    tip = next((tip for name, _, tip in store.streams() if name == run_id), "")
    return audit(
        RunRows(
            run=run,
            stages=store.stages(run_id),
            deps=store.deps(run_id),
            attempts=store.attempts(run_id),
            effects=store.effects(run_id),
            products=store.products(run_id),
            checkpoints=store.checkpoints(run_id),
            decisions=store.decisions(run_id),
            events=store.events(run_id, limit=10_000_000),
            tip=tip,
        )
    )


def audit(rows: RunRows) -> list[Violation]:
    """All violations, by rule."""
    return [Violation(rule, where, what) for rule, check in _RULES for where, what in check(rows)]


Found = Iterator[tuple[str, str]]


def _products(rows: RunRows) -> Found:
    attempts = {(row.n, row.number): row for row in rows.attempts}
    count = Counter(product.n for product in rows.products)
    yield from ((rows.name(n), f"has {times} products") for n, times in count.items() if times > 1)
    for product in rows.products:
        attempt, stage = attempts.get((product.n, product.attempt)), rows.stage_at.get(product.n)
        if attempt is None:
            yield rows.name(product.n), f"its product is of attempt {product.attempt}, which is not there"
        elif attempt.state != _A.SUCCEEDED:
            yield rows.name(product.n, product.attempt), f"its product was taken, but it is {attempt.state}"
        if stage is None or stage.state != _S.SUCCEEDED:
            yield rows.name(product.n), f"has a product, but is {stage.state if stage else 'not there'}"
    for stage in rows.stages:
        if stage.state == _S.SUCCEEDED and stage.n not in count:
            yield rows.name(stage.n), "succeeded without a product"


def _epochs_of_products(rows: RunRows) -> Found:
    attempts = {(row.n, row.number): row for row in rows.attempts}
    for product in rows.products:
        attempt, stage = attempts.get((product.n, product.attempt)), rows.stage_at.get(product.n)
        if attempt is not None and attempt.epoch != product.epoch:
            yield rows.name(product.n), f"its product has epoch {product.epoch}, its attempt {attempt.epoch}"
        if stage is not None and not product.adopted and stage.epoch != product.epoch:
            yield rows.name(product.n), f"its product has epoch {product.epoch}, the stage {stage.epoch}, not adopted"


def _numbers(rows: RunRows) -> Found:
    for n, attempts in rows.by_stage.items():
        numbers = [row.number for row in attempts]
        if numbers != list(range(1, len(numbers) + 1)):
            yield rows.name(n), f"its attempts are numbered {numbers}"
        epochs = [row.epoch for row in attempts]
        if epochs != sorted(epochs):
            yield rows.name(n), f"the epochs of its attempts fall: {epochs}"
        stage = rows.stage_at.get(n)
        if stage is None:
            yield rows.name(n), "has attempts, but is not there"
        elif stage.epoch < max(epochs):
            yield rows.name(n), f"its epoch {stage.epoch} is behind its attempts' {max(epochs)}"
    for stage in rows.stages:
        if stage.attempt and stage.attempt not in {row.number for row in rows.by_stage.get(stage.n, ())}:
            yield rows.name(stage.n), f"its current attempt {stage.attempt} is not there"


def _submitted(rows: RunRows) -> Found:
    for row in rows.attempts:
        if not (row.native_id or row.answer):
            continue
        effect = rows.effect_at.get(f"submit:{row.submit_key}")
        if effect is None:
            yield rows.name(row.n, row.number), "was submitted without an effect that said so before"
        elif row.submitted_at is not None and effect.created_at > row.submitted_at:
            yield rows.name(row.n, row.number), "was submitted before its effect was committed"


def _one_current(rows: RunRows) -> Found:
    for n, attempts in rows.by_stage.items():
        live = [row.number for row in attempts if row.open and not row.orphan]
        stage = rows.stage_at.get(n)
        if len(live) > 1:
            yield rows.name(n), f"attempts {live} are open, and none of them is left behind"
        elif live and stage is not None and live[0] != stage.attempt:
            yield rows.name(n), f"attempt {live[0]} is open and not left behind, but {stage.attempt} is the current one"
    keys = Counter(row.submit_key for row in rows.attempts)
    yield from (
        (rows.run.run_id, f"the key {key} belongs to {times} attempts") for key, times in keys.items() if times > 1
    )


def _no_overlap(rows: RunRows) -> Found:
    for n, attempts in rows.by_stage.items():
        if rows.rules_at[n].get("duplicates") != "never":
            continue
        sent = [row for row in attempts if row.open and (row.native_id or row.answer)]
        if len(sent) > 1:
            yield rows.name(n), f"duplicates: never, but attempts {[row.number for row in sent]} may run at once"


def _open(rows: RunRows) -> Found:
    over = RunState(rows.run.state).final
    for row in rows.attempts:
        final = AttemptState(row.state).final
        if final is bool(row.open):
            yield rows.name(row.n, row.number), f"is {row.state} and {'open' if row.open else 'not open'}"
        elif over and row.open and not row.orphan:
            yield rows.name(row.n, row.number), f"is {row.state} and not left behind, but the run is {rows.run.state}"
    for stage in rows.stages:
        if over and not StageState(stage.state).final:
            yield rows.name(stage.n), f"is {stage.state}, but the run is {rows.run.state}"


def _awake(rows: RunRows) -> Found:
    run = rows.run
    busy = run.open_attempts or run.lease_owner or run.held or run.wants or run.due_at is not None
    if RunState(run.state).final or busy or any(effect.due_at is not None for effect in rows.effects):
        return
    for stage in rows.stages:
        able = stage.state in (_S.READY, _S.ACTIVE) or (stage.state == _S.WAITING and not stage.unmet)
        if able and stage.due_at is None:
            yield rows.name(stage.n), f"is {stage.state}, and nothing will ever look at it"


def _effects(rows: RunRows) -> Found:
    attempts = {(row.n, row.number): row for row in rows.attempts}
    for row in rows.attempts:
        kind = _WAITS_FOR.get(AttemptState(row.state))
        if kind and f"{kind}:{row.submit_key}" not in rows.effect_at:
            yield rows.name(row.n, row.number), f"is {row.state} without an effect {kind}"
        if row.cancel_requested_at is not None and f"cancel:{row.submit_key}" not in rows.effect_at:
            yield rows.name(row.n, row.number), "is to be canceled without an effect that does it"
    for effect in rows.effects:
        attempt = attempts.get((effect.n, effect.attempt))
        if attempt is None:
            yield rows.name(effect.n, effect.attempt), f"the effect {effect.key} is of no attempt"
        elif not attempt.open and effect.state == "pending" and not effect.claim and effect.kind in _MAY_NOT_REMAIN:
            yield rows.name(effect.n, effect.attempt), f"is {attempt.state}, but the effect {effect.key} is pending"


def _verified(rows: RunRows) -> Found:
    attempts = {(row.n, row.number): row for row in rows.attempts}
    for product in rows.products:
        attempt = attempts.get((product.n, product.attempt))
        if attempt is None or not json.loads(product.manifest)["files"]:
            continue
        verified = json.loads(attempt.verified) if attempt.verified else {}
        if not verified.get("ok"):
            yield rows.name(product.n, product.attempt), "its files are a product, but were never verified"


def _restores(rows: RunRows) -> Found:
    verified = {(c.n, c.attempt, c.generation, c.seq, c.site) for c in rows.checkpoints if c.verified_at is not None}
    for row in rows.attempts:
        if not row.restore:
            continue
        origin = json.loads(row.restore)
        if origin["attempt"] >= row.number:
            yield rows.name(row.n, row.number), f"starts from a checkpoint of attempt {origin['attempt']}"
        if (row.n, origin["attempt"], origin["generation"], origin["seq"], origin["site"]) not in verified:
            yield rows.name(row.n, row.number), f"starts from checkpoint {origin['seq']}, which was never verified"


def _decisions(rows: RunRows) -> Found:
    placed = {(d.n, d.attempt): d.seq for d in rows.decisions if d.kind == "placement" and d.outcome == "place"}
    reasons: dict[int, list[int]] = defaultdict(list)
    for decision in rows.decisions:
        if decision.kind in ("failover", "retry", "command"):
            reasons[decision.n].append(decision.seq)
    for row in rows.attempts:
        seq = placed.get((row.n, row.number))
        if seq is None:
            yield rows.name(row.n, row.number), "no decision placed it"
        elif row.number > 1 and sum(s < seq for s in reasons[row.n]) < 1:
            yield rows.name(row.n, row.number), "no decision says why there is another attempt"


def _chain(rows: RunRows) -> Found:
    broken = verify_chain(rows.events, rows.tip)
    if broken is not None:
        yield rows.run.run_id, broken.why


def _canceled(rows: RunRows) -> Found:
    products = {product.n for product in rows.products}
    for stage in rows.stages:
        if stage.state != _S.CANCELED:
            continue
        if stage.n in products:
            yield rows.name(stage.n), "was canceled, but has a product"
        late = [a.number for a in rows.by_stage.get(stage.n, ()) if stage.ended_at and a.created_at > stage.ended_at]
        if late:
            yield rows.name(stage.n), f"was canceled, but attempts {late} began afterwards"


def _counters(rows: RunRows) -> Found:
    run, states = rows.run, {stage.n: StageState(stage.state) for stage in rows.stages}
    lost = [n for n, state in states.items() if state in (_S.FAILED, _S.CANCELED) and rows.rules_at[n]["required"]]
    counted = {
        "stages": len(states),
        "unsettled": sum(not state.final for state in states.values()),
        "failed": len(lost),
        "open_attempts": sum(bool(row.open) for row in rows.attempts),
    }
    for name, value in counted.items():
        if getattr(run, name) != value:
            yield run.run_id, f"{name} is {getattr(run, name)}, but the rows say {value}"
    unmet: Counter[int] = Counter()
    doomed: Counter[int] = Counter()
    for dep in rows.deps:
        how = _how(rows, dep, states[dep.parent])
        unmet[dep.child] += how != "ok"
        doomed[dep.child] += how == "failed"
    for stage in rows.stages:
        if (stage.unmet, stage.doomed) != (unmet[stage.n], doomed[stage.n]):
            counts = f"unmet {stage.unmet}, doomed {stage.doomed}"
            yield rows.name(stage.n), f"{counts}, but its needs say {unmet[stage.n]} and {doomed[stage.n]}"


def _how(rows: RunRows, dep: DepRow, parent: StageState) -> str:
    """What a parent's state means for a child: ok, failed, or open."""
    if not parent.final:
        return "open"
    if parent is _S.SUCCEEDED:
        return "ok"
    waived = parent is not _S.SKIPPED and not rows.rules_at[dep.parent]["required"]
    return "ok" if waived and not dep.inputs else "failed"


_RULES: Sequence[tuple[str, Callable[[RunRows], Found]]] = (
    ("I1", _products),
    ("I2", _epochs_of_products),
    ("I3", _numbers),
    ("I4", _submitted),
    ("I5", _one_current),
    ("I6", _no_overlap),
    ("I7", _open),
    ("I8", _awake),
    ("I12", _effects),
    ("I14", _verified),
    ("I15", _restores),
    ("I18", _decisions),
    ("I19", _chain),
    ("I23", _canceled),
    ("counters", _counters),
)
