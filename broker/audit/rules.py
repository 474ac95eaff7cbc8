"""What must hold of a run's rows at any moment between two transactions. Pure."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from broker.audit.rows import Found, RunRows, Violation, leads_on
from broker.states import ENDS_WITH_ATTEMPT, AttemptState, RunState, StageState
from broker.store.audit import verify_chain
from broker.store.base import DepRow

_A, _S = AttemptState, StageState
PLACED = ("place", "copy")
"""Outcomes of a placement that begin an attempt."""
_WAITS_FOR = {_A.STAGING_IN: "stage_in", _A.SUBMITTING: "submit", _A.VERIFYING: "verify"}


def audit(rows: RunRows) -> list[Violation]:
    """All violations, by rule."""
    return [Violation(rule, where, what) for rule, check in _RULES for where, what in check(rows)]


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


def _hinted(rows: RunRows) -> Found:
    """The run's own time is no later than those of its stages and effects: a sweeper looks at nothing else."""
    run = rows.run
    hints = [*(stage.due_at for stage in rows.stages), *(effect.due_at for effect in rows.effects)]
    times = [at for at in hints if at is not None]
    if times and run.lease_owner is None and (run.due_at is None or run.due_at > min(times)):
        yield run.run_id, f"it is due at {run.due_at}, something of it at {min(times)}"
    for effect in rows.effects:
        if effect.state == "pending" and effect.due_at is None:
            yield rows.name(effect.n, effect.attempt), f"the effect {effect.key} is pending, and never due"
    for stage in rows.stages:
        watched = any(row.open and row.number == stage.attempt for row in rows.by_stage.get(stage.n, ()))
        if stage.state == _S.ACTIVE and stage.due_at is None and not watched:
            yield rows.name(stage.n), "is ACTIVE without an open attempt, and never due"


def _effects(rows: RunRows) -> Found:
    attempts = {(row.n, row.number): row for row in rows.attempts}
    for row in rows.attempts:
        kind = _WAITS_FOR.get(AttemptState(row.state))
        if kind == "stage_in" and not row.site:
            kind = "copy"
        if kind and f"{kind}:{row.submit_key}" not in rows.effect_at:
            yield rows.name(row.n, row.number), f"is {row.state} without an effect {kind}"
        if row.cancel_requested_at is not None and f"cancel:{row.submit_key}" not in rows.effect_at:
            yield rows.name(row.n, row.number), "is to be canceled without an effect that does it"
    for effect in rows.effects:
        attempt = attempts.get((effect.n, effect.attempt))
        if attempt is None:
            yield rows.name(effect.n, effect.attempt), f"the effect {effect.key} is of no attempt"
        elif not attempt.open and effect.state == "pending" and not effect.claim and effect.kind in ENDS_WITH_ATTEMPT:
            yield rows.name(effect.n, effect.attempt), f"is {attempt.state}, but the effect {effect.key} is pending"


def _verified(rows: RunRows) -> Found:
    attempts = {(row.n, row.number): row for row in rows.attempts}
    for product in rows.products:
        attempt = attempts.get((product.n, product.attempt))
        if attempt is None:
            continue
        if not attempt.site:  # it only moves data: nothing ran, and the mover verifies what it brings
            if not attempt.staged or not json.loads(attempt.staged)["ok"]:
                yield rows.name(product.n, product.attempt), "is a product, but nobody said that all has arrived"
            continue
        record = json.loads(attempt.exit) if attempt.exit else {}
        if (record.get("kind"), record.get("exit_code")) != ("done", 0):
            yield rows.name(product.n, product.attempt), "is a product without a record of its good end"
        if not json.loads(product.manifest)["files"]:
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
    placed = {(d.n, d.attempt): d.seq for d in rows.decisions if d.kind == "placement" and d.outcome in PLACED}
    reasons: dict[int, list[int]] = defaultdict(list)
    for decision in rows.decisions:
        if leads_on(decision.kind, decision.outcome):
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
    submitted: dict[int, int] = {}
    for effect in rows.effects:
        if effect.kind == "submit":
            submitted[effect.n] = max(effect.created_at, submitted.get(effect.n, 0))
    for stage in rows.stages:
        if stage.state != _S.CANCELED:
            continue
        if stage.n in products:
            yield rows.name(stage.n), "was canceled, but has a product"
        if stage.ended_at is not None and submitted.get(stage.n, 0) > stage.ended_at:
            yield rows.name(stage.n), "was canceled, but a submission was decided afterwards"
        late = [a.number for a in rows.by_stage.get(stage.n, ()) if stage.ended_at and a.created_at > stage.ended_at]
        if late:
            yield rows.name(stage.n), f"was canceled, but attempts {late} began afterwards"


def _counters(rows: RunRows) -> Found:
    run, states = rows.run, {stage.n: StageState(stage.state) for stage in rows.stages}
    unwanted = {stage.n for stage in rows.stages if stage.reason and stage.reason == rows.rules_at[stage.n].get("skip")}
    lost = [n for n, state in states.items() if state in (_S.FAILED, _S.CANCELED) and rows.rules_at[n]["required"]]
    counted = {
        "stages": len(states),
        "unsettled": sum(not state.final for state in states.values()),
        "failed": len(lost),
        "open_attempts": sum(bool(row.open) for row in rows.attempts),
        "commands": rows.open_commands,
    }
    for name, value in counted.items():
        if getattr(run, name) != value:
            yield run.run_id, f"{name} is {getattr(run, name)}, but the rows say {value}"
    unmet: Counter[int] = Counter()
    doomed: Counter[int] = Counter()
    for dep in rows.deps:
        how = _how(rows, dep, states[dep.parent], unwanted=dep.parent in unwanted)
        unmet[dep.child] += how != "ok"
        doomed[dep.child] += how == "failed"
    for stage in rows.stages:
        if (stage.unmet, stage.doomed) != (unmet[stage.n], doomed[stage.n]):
            counts = f"unmet {stage.unmet}, doomed {stage.doomed}"
            yield rows.name(stage.n), f"{counts}, but its needs say {unmet[stage.n]} and {doomed[stage.n]}"


def _how(rows: RunRows, dep: DepRow, parent: StageState, *, unwanted: bool) -> str:
    """What a parent's state means for a child: ok, failed, or open. `unwanted`: it was skipped by a `when`."""
    if not parent.final:
        return "open"
    if parent is _S.SUCCEEDED or (unwanted and parent is _S.SKIPPED):
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
    ("I8", _hinted),
    ("I12", _effects),
    ("I14", _verified),
    ("I15", _restores),
    ("I18", _decisions),
    ("I19", _chain),
    ("I23", _canceled),
    ("counters", _counters),
)

NAMES = tuple(dict.fromkeys(name for name, _ in _RULES))
"""The rules, by the names of the invariants that they see part of."""
