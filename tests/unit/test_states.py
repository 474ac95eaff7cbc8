"""States: a sentence each, complete tables, ends that stay ends."""

from __future__ import annotations

import ast
import inspect
import json
from enum import StrEnum
from itertools import pairwise, product

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, site
from store_kit import attempt_row

from broker import states
from broker.clock import micros
from broker.engine.attempt import to_state
from broker.states import (
    ATTEMPT_MOVES,
    RUN_MOVES,
    STAGE_MOVES,
    AttemptState,
    IllegalMove,
    RunState,
    StageState,
    may_move,
    move,
)
from sandbox.faults import Partition

TABLES: list[tuple[type[StrEnum], dict]] = [
    (RunState, RUN_MOVES),
    (StageState, STAGE_MOVES),
    (AttemptState, ATTEMPT_MOVES),
]
KINDS = [kind for kind, _ in TABLES]
_A = AttemptState


def sentences_of(kind: type[StrEnum]) -> dict[str, str]:
    """Each member with the text that stands below it."""
    (body,) = [node.body for node in ast.parse(inspect.getsource(kind)).body if isinstance(node, ast.ClassDef)]
    found = {}
    for member, below in pairwise(body):
        text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and below.value.value
        if isinstance(member, ast.Assign) and isinstance(text, str):
            found[member.targets[0].id] = text
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_state_has_a_sentence(kind: type[StrEnum]) -> None:
    found = sentences_of(kind)
    assert found.keys() == {state.name for state in kind}
    assert all(text.endswith(".") and text[0].isupper() for text in found.values())


@pytest.mark.parametrize(("kind", "table"), TABLES)
def test_every_state_has_a_row_in_its_table(kind: type[StrEnum], table: dict) -> None:
    assert set(table) == set(kind)
    assert all(successors <= set(kind) for successors in table.values())


@pytest.mark.parametrize(("kind", "table"), TABLES)
def test_staying_is_no_move(kind: type[StrEnum], table: dict) -> None:
    assert not any(state in table[state] for state in kind)


@pytest.mark.parametrize(("kind", "table"), TABLES)
def test_every_state_can_still_come_to_an_end(kind: type[StrEnum], table: dict) -> None:
    for state in kind:
        assert state.final or any(successor.final for successor in table[state])


REOPENED_BY_RETRY = {
    "RunState.FAILED": {RunState.RUNNING},
    "StageState.FAILED": {StageState.READY},
    "StageState.SKIPPED": {StageState.WAITING, StageState.READY},
}
"""By name: states of different kinds that are spelled alike are equal, as texts are."""


@pytest.mark.parametrize(("kind", "table"), TABLES)
def test_final_states_have_no_successors_but_for_retry(kind: type[StrEnum], table: dict) -> None:
    for state in kind:
        if state.final:
            assert set(table[state]) == REOPENED_BY_RETRY.get(f"{kind.__name__}.{state.name}", set())


@pytest.mark.parametrize(("kind", "table"), TABLES)
def test_move_and_may_move_say_what_the_table_says(kind: type[StrEnum], table: dict) -> None:
    for old, new in product(kind, kind):
        assert may_move(old, new) == (new in table[old])
        if new in table[old]:
            assert move(old, new) is new
        else:
            with pytest.raises(IllegalMove, match=f"{kind.__name__}: {old} may not become {new}"):
                move(old, new)


# -- the engine ------------------------------------------------------------------------------------------------------


def reachable(state: AttemptState) -> set[AttemptState]:
    """Every state that a chain of lawful moves leads to."""
    found: set[AttemptState] = set()
    ahead = [state]
    while ahead:
        for successor in ATTEMPT_MOVES[ahead.pop()] - found:
            found.add(successor)
            ahead.append(successor)
    return found


def test_an_attempt_goes_by_lawful_steps_or_stays_or_raises() -> None:
    for old, new in product(_A, _A):
        row = attempt_row(0, state=old.value)
        try:
            after = to_state(row, new)
        except IllegalMove:
            assert not may_move(old, new)
            continue
        assert after.state == new
        assert new is old or new in reachable(old)


def test_an_attempt_that_is_over_goes_nowhere() -> None:
    for old in (state for state in _A if state.final):
        for new in set(_A) - {old}:
            with pytest.raises(IllegalMove):
                to_state(attempt_row(0, state=old.value), new)


def told_moves(lab: Lab, run: str) -> list[tuple[AttemptState, AttemptState]]:
    moves = []
    for event in lab.store.events(run):
        data = json.loads(event.data)
        if event.attempt and "from" in data and "to" in data and data["from"] in _A.__members__:
            moves.append((_A(data["from"]), _A(data["to"])))
    return moves


def test_every_move_that_the_engine_tells_of_is_lawful() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    now = lab.clock()
    lab.sites["nersc"].model.inject(Partition(start=now + micros(300), end=now + micros(1200)))
    run = lab.submit(
        Stage("make", "seconds=100 outputs=x:5", outputs=["x"]),
        Stage("take", "seconds=700 checkpoint_every=50", inputs=[("x", "make")], rules={"checkpoint": CHECKPOINT}),
        Stage("bad", "seconds=10 exit=1", needs=["make"]),
    )
    assert lab.finish(run) == "FAILED"
    moves = told_moves(lab, run)
    assert len(moves) >= 6
    for old, new in moves:
        assert new in reachable(old), (old, new)


def test_the_tables_know_no_state_that_is_not_there() -> None:
    assert {table for table in vars(states) if table.endswith("_MOVES")} == {
        "RUN_MOVES",
        "STAGE_MOVES",
        "ATTEMPT_MOVES",
    }
