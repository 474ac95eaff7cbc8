"""The product with one safeguard taken out, for as long as a context lasts. Here and nowhere else.

The product has no switch for any of these: they are cut out of the running code, and put back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from sqlalchemy import insert

from broker.effects import submit
from broker.effects.outcome import Result, note_of
from broker.effects.outcome import again as outcome_again
from broker.effects.submit import Submitter
from broker.residency import Residency
from broker.store import deciding, look
from broker.store.base import AttemptRow, EffectAgain, EffectRow, StageRow
from broker.store.rows import (
    _RUN_DELTAS,
    COUNTERS,
    DECIDED_OF_ATTEMPT,
    DECIDED_OF_STAGE,
    GUARD,
    RUN_DECIDED,
)
from broker.store.schema import attempt, effect, product, run, stage
from broker.store.sqlite import SqliteTransaction
from broker.store.statement import Statement, given
from broker.watch import jobs
from connectors.model import JobStatus
from policies import placement
from sandbox.wrapper import Wrapper


@contextmanager
def without_compare_and_set() -> Iterator[None]:
    """Decisions are written blindly: whoever holds the lease by now, whatever the rows have become."""
    run_row = run.c.run_id == given("run_id")
    stage_row = [stage.c.run_id == given("run_id"), stage.c.n == given("n")]
    attempt_row = [attempt.c.run_id == given("run_id"), attempt.c.n == given("n"), attempt.c.number == given("number")]
    decided = {**_RUN_DELTAS, **{name: given(name) for name in RUN_DECIDED}}
    blind = {
        "TOUCH_RUN": Statement(run.update().values(_RUN_DELTAS).where(run_row), *GUARD, *COUNTERS, "ttl", "hint"),
        "UPDATE_RUN": Statement(
            run.update().values(decided).where(run_row), *GUARD, *COUNTERS, "ttl", "hint", *RUN_DECIDED
        ),
        "UPDATE_STAGE": Statement(
            stage.update().values({name: given(name) for name in DECIDED_OF_STAGE}).where(*stage_row), *StageRow._fields
        ),
        "UPDATE_ATTEMPT": Statement(
            attempt.update().values({name: given(name) for name in DECIDED_OF_ATTEMPT}).where(*attempt_row),
            *AttemptRow._fields,
        ),
        "INSERT_ATTEMPT": _over(attempt),
        "INSERT_EFFECT": _over(effect),
        "INSERT_PRODUCT": _over(product),
    }
    with ExitStack() as stack:
        for name, statement in blind.items():
            stack.enter_context(patch.object(deciding, name, statement))
        stack.enter_context(patch.object(SqliteTransaction, "put_each", _whatever_is_there))
        stack.enter_context(patch.object(look, "LEASED_RUN", ANYBODYS_RUN))
        yield


def _over(table: Any) -> Statement:
    """An insert that overwrites what is there."""
    names = tuple(column.name for column in table.columns)
    return Statement(insert(table).prefix_with("OR REPLACE").values({name: given(name) for name in names}), *names)


def _whatever_is_there(tx: SqliteTransaction, statement: Statement, rows: Iterable[Any], _refused: Exception) -> None:
    tx.many(statement, rows)


ANYBODYS_RUN = Statement(run.select().where(run.c.run_id == given("run_id")), "run_id", "token", "owner")


@contextmanager
def without_find_by_key() -> Iterator[None]:
    """After a doubt the job is simply submitted again."""

    def at_once(self: Submitter, site: Any, batch: Any) -> Result:
        result = Result()
        self._send(site, batch, result)
        return result

    with patch.object(Submitter, "submit", at_once):
        yield


@contextmanager
def without_start_gate() -> Iterator[None]:
    """Every execution passes, whoever is inside already."""
    real = Wrapper.gate

    def gate(self: Wrapper, execution: Any, papers: Any, now: int) -> int | None:
        last = self._owners.get(execution.key)
        answer = real(self, execution, papers, now)
        if answer == 0:
            return 0
        execution.generation = 1 if last is None else last.generation + 1
        self._owners[execution.key] = execution
        self._beat(execution, now)
        return 0

    with patch.object(Wrapper, "gate", gate):
        yield


@contextmanager
def without_follow_the_key() -> Iterator[None]:
    """Of several jobs of one key the broker watches the one that it was told of last, gated out or not; and looks
    after no heartbeat of another one."""

    def newest(items: Sequence[JobStatus]) -> dict[str, JobStatus]:
        return {item.key: item for item in sorted(items, key=lambda item: int(item.native_id))}

    with patch.object(jobs, "_by_key", newest), patch.object(jobs, "heartbeat", lambda _site, _row: ""):
        yield


@contextmanager
def without_fresh_doubt() -> Iterator[None]:
    """Looks that were made before a submission count for what became of it."""

    def again(effect: EffectRow, now: int, **said: Any) -> EffectAgain:
        old, new = note_of(effect), said.get("note") or {}
        if "doubt_since" in old and new.get("looks") == 0:
            said["note"] = {**new, "doubt_since": old["doubt_since"], "looks": old.get("looks", 0)}
        return outcome_again(effect, now, **said)

    with patch.object(submit, "died_since", lambda _effect: False), patch.object(submit, "again", again):
        yield


@contextmanager
def without_second_look() -> Iterator[None]:
    """A job that one listing does not show is lost at once."""
    real = jobs._job_fact

    def confirmed(status: JobStatus | None) -> dict[str, Any]:
        return _Sure(real(status))

    with patch.object(jobs, "_job_fact", confirmed):
        yield


class _Sure(dict[str, Any]):
    """A fact that is taken for confirmed, whatever is said later."""

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, True if name == "confirmed" else value)


@contextmanager
def without_residency() -> Iterator[None]:
    """Nobody asks where data may be: not who places, nor who submits and moves."""
    with (
        patch.object(placement, "allowed", lambda *_: None),
        patch.object(Residency, "against", lambda *_: None),
    ):
        yield
