"""The audit sees every kind of violation that it is named for, and none in rows that are right."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_type_hints

import pytest

from broker.audit import RunRows, audit
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
    event_hash,
)

RUN = "260101-000000-aaaaaaaa"
REQUIRED = json.dumps({"required": True, "duplicates": "allow"})


def filled(row: type, **values: Any) -> Any:
    """A row with what a test does not care about left empty."""
    empty = {int: 0, str: "", bytes: b""}
    kinds = get_type_hints(row)
    return row(**{name: values.get(name, empty.get(kinds[name])) for name in row._fields})


def run_row(**values: Any) -> RunRow:
    base = {"run_id": RUN, "name": "t", "state": "SUCCEEDED", "stages": 2, "unsettled": 0}
    return filled(RunRow, **{**base, **values})


def stage_row(n: int, **values: Any) -> StageRow:
    base = {"run_id": RUN, "n": n, "path": f"s{n}", "state": "SUCCEEDED", "epoch": 1, "attempt": 1, "rules": REQUIRED}
    return filled(StageRow, **{**base, **values})


def attempt_row(n: int, number: int = 1, **values: Any) -> AttemptRow:
    base = {
        "run_id": RUN,
        "n": n,
        "number": number,
        "epoch": number,
        "site": "here",
        "state": "SUCCEEDED",
        "submit_key": f"cf{n}x{number}",
        "created_at": 10 * number,
        "submitted_at": 10 * number + 2,
        "native_id": "7",
        "exit": '{"kind":"done","exit_code":0}',
        "verified": '{"ok":true}',
        "why": "first" if number == 1 else "retry",
    }
    return filled(AttemptRow, **{**base, **values})


def effect_row(n: int, number: int = 1, kind: str = "submit", **values: Any) -> EffectRow:
    base = {"key": f"{kind}:cf{n}x{number}", "run_id": RUN, "n": n, "attempt": number, "kind": kind, "state": "done"}
    return filled(EffectRow, **{**base, "created_at": 10 * number, **values})


def product_row(n: int, **values: Any) -> ProductRow:
    base = {"run_id": RUN, "n": n, "attempt": 1, "epoch": 1, "site": "here", "manifest": '{"files":[["a",1,"x"]]}'}
    return filled(ProductRow, **{**base, **values})


def decision_row(seq: int, n: int, number: int = 1, kind: str = "placement", outcome: str = "place") -> DecisionRow:
    return filled(DecisionRow, run_id=RUN, seq=seq, n=n, attempt=number, kind=kind, outcome=outcome)


def chain(length: int) -> list[EventRow]:
    events, tip = [], ""
    for seq in range(1, length + 1):
        row = (RUN, seq, seq, "engine", "placed", "s0", 1, "{}")
        tip = event_hash(tip, row)
        events.append(EventRow(*row, tip))
    return events


def good() -> RunRows:
    """Two stages in a row, both done at the first try."""
    events = chain(4)
    return RunRows(
        run=run_row(),
        stages=[stage_row(0), stage_row(1)],
        deps=[DepRow(RUN, 0, 1, 1)],
        attempts=[attempt_row(0), attempt_row(1)],
        effects=[effect_row(0), effect_row(1)],
        products=[product_row(0), product_row(1)],
        checkpoints=[],
        decisions=[decision_row(1, 0), decision_row(2, 1)],
        events=events,
        tip=events[-1].hash,
    )


def rules(rows: RunRows) -> set[str]:
    return {violation.rule for violation in audit(rows)}


def test_rows_that_are_right_have_no_violation() -> None:
    assert audit(good()) == []


def test_a_run_that_moved_from_a_checkpoint_has_no_violation() -> None:
    rows = good()
    restore = json.dumps({"attempt": 1, "generation": 1, "seq": 3, "site": "there", "path": "p"})
    moved = replace(
        rows,
        run=rows.run._replace(open_attempts=1),
        stages=[stage_row(0, epoch=2, attempt=2), stage_row(1)],
        attempts=[
            attempt_row(0, state="RUNNING", open=1, orphan=1),
            attempt_row(0, 2, restore=restore, why="failover"),
            attempt_row(1),
        ],
        effects=[effect_row(0), effect_row(0, 2), effect_row(1)],
        products=[product_row(0, attempt=2, epoch=2), product_row(1)],
        checkpoints=[filled(CheckpointRow, n=0, attempt=1, generation=1, seq=3, site="there", verified_at=5)],
        decisions=[
            decision_row(1, 0),
            decision_row(2, 0, 1, "failover", "move"),
            decision_row(3, 0, 2),
            decision_row(4, 1),
        ],
    )
    assert audit(moved) == []


def attempt_0(**values: Any) -> list[AttemptRow]:
    return [attempt_row(0, **values), attempt_row(1)]


BROKEN = {
    "a second product of a stage": ("I1", {"products": [product_row(0), product_row(0), product_row(1)]}),
    "a success without a product": ("I1", {"products": [product_row(0)]}),
    "a product of an attempt that is not there": ("I1", {"products": [product_row(0, attempt=9), product_row(1)]}),
    "a product of an attempt that failed": ("I1", {"attempts": attempt_0(state="FAILED")}),
    "a product of another epoch": ("I2", {"products": [product_row(0, epoch=2), product_row(1)]}),
    "a gap in the attempts": ("I3", {"attempts": [attempt_row(0, 2), attempt_row(1)]}),
    "a stage behind its attempts": ("I3", {"stages": [stage_row(0, epoch=0), stage_row(1)]}),
    "a current attempt that is not there": ("I3", {"stages": [stage_row(0, attempt=2), stage_row(1)]}),
    "a submission without an effect": ("I4", {"effects": [effect_row(1)]}),
    "a submission before its effect": ("I4", {"effects": [effect_row(0, created_at=99), effect_row(1)]}),
    "two attempts that are current": (
        "I5",
        {"attempts": [attempt_row(0, open=1), attempt_row(0, 2, open=1), attempt_row(1)]},
    ),
    "one key for two attempts": ("I5", {"attempts": attempt_0(submit_key="cf1x1")}),
    "copies that may not overlap": (
        "I6",
        {
            "stages": [stage_row(0, attempt=2, epoch=2, rules='{"required":true,"duplicates":"never"}'), stage_row(1)],
            "attempts": [attempt_row(0, open=1, orphan=1), attempt_row(0, 2, open=1), attempt_row(1)],
        },
    ),
    "a final attempt that is open": ("I7", {"attempts": attempt_0(open=1)}),
    "an attempt that runs after its run": ("I7", {"attempts": attempt_0(state="RUNNING", open=1)}),
    "a stage that is not over when its run is": ("I7", {"stages": [stage_row(0, state="ACTIVE"), stage_row(1)]}),
    "a stage that nothing will look at": (
        "I8",
        {"run": run_row(state="RUNNING"), "stages": [stage_row(0, state="READY", attempt=0), stage_row(1)]},
    ),
    "a submission nobody makes": ("I12", {"attempts": attempt_0(state="STAGING_IN", open=1)}),
    "an effect of no attempt": ("I12", {"effects": [effect_row(0), effect_row(1), effect_row(5)]}),
    "an effect that outlives its attempt": (
        "I12",
        {"effects": [effect_row(0), effect_row(1), effect_row(0, kind="stage_in", state="pending")]},
    ),
    "a product that nobody verified": ("I14", {"attempts": attempt_0(verified="")}),
    "a restart from what was never verified": (
        "I15",
        {"attempts": attempt_0(restore='{"attempt":0,"generation":1,"seq":1,"site":"here","path":"p"}')},
    ),
    "an attempt that nobody decided": ("I18", {"decisions": [decision_row(1, 0)]}),
    "a further attempt without a why": (
        "I18",
        {"attempts": [attempt_row(0), attempt_row(0, 2), attempt_row(1)], "decisions": [decision_row(1, 0, 2)]},
    ),
    "a chain that was cut": ("I19", {"events": chain(3)}),
    "a product of a canceled stage": ("I23", {"stages": [stage_row(0, state="CANCELED"), stage_row(1)]}),
    "an attempt after the cancel": ("I23", {"stages": [stage_row(0, state="CANCELED", ended_at=1), stage_row(1)]}),
    "a wrong count of the run": ("counters", {"run": run_row(unsettled=1)}),
    "a wrong count of needs": ("counters", {"stages": [stage_row(0), stage_row(1, unmet=1)]}),
}


@pytest.mark.parametrize(("rule", "changes"), BROKEN.values(), ids=BROKEN)
def test_the_audit_finds(rule: str, changes: dict[str, Any]) -> None:
    assert rule in rules(replace(good(), **changes))


def test_an_optional_parent_that_failed_counts_as_met_where_only_its_turn_was_needed() -> None:
    optional = json.dumps({"required": False, "duplicates": "allow"})
    rows = replace(
        good(),
        stages=[stage_row(0, state="FAILED", rules=optional), stage_row(1)],
        deps=[DepRow(RUN, 0, 1, 0)],
        attempts=attempt_0(state="FAILED"),
        products=[product_row(1)],
    )
    assert audit(rows) == []
    needs_files = replace(rows, deps=[DepRow(RUN, 0, 1, 1)])
    assert rules(needs_files) == {"counters"}
