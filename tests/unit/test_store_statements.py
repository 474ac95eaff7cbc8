"""Statements and rows: they fit the tables, and mean the same on every database."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import Integer, String, bindparam, column, literal, select, table

import broker.store
from broker.alerts.rows import AlertRow
from broker.deadlines import DeadlineRow
from broker.store import base, booked, pipeline, schema, sqlite
from broker.store.statement import Lookup, Statement, given, padded
from broker.traffic import rows as traffic

ROWS = {
    "run": base.RunRow,
    "stage": base.StageRow,
    "stage_dep": base.DepRow,
    "attempt": base.AttemptRow,
    "checkpoint": base.CheckpointRow,
    "effect": base.EffectRow,
    "product": base.ProductRow,
    "decision": base.DecisionRow,
    "event": base.EventRow,
    "command": base.CommandRow,
    "site": base.SiteRow,
    "evidence": base.EvidenceRow,
    "worker": base.WorkerRow,
    "stray": base.StrayRow,
    "retention": base.RetentionRow,
    "waiver": base.WaiverRow,
    "notice": base.NoticeRow,
    "alert": AlertRow,
    "deadline": DeadlineRow,
    "charge": booked.ChargeRow,
    "cap": booked.CapRow,
    "allocation": booked.AllocationRow,
    "log_tail": base.LogTail,
    "installation": base.Installation,
    "movement": traffic.MovementRow,
    "transfer": traffic.TransferRow,
    "mover": traffic.MoverRow,
    "link": traffic.LinkRow,
    "replica": traffic.ReplicaRow,
}
DIALECTS = {"sqlite": sqlite.DIALECT, "postgresql": pipeline.DIALECT}


@pytest.mark.parametrize("name", ROWS)
def test_rows_have_the_columns_of_their_table_in_order(name: str) -> None:
    assert ROWS[name]._fields == tuple(column.name for column in schema.metadata.tables[name].columns)


def test_every_table_with_more_than_two_columns_that_matter_has_a_row() -> None:
    assert set(schema.metadata.tables) - set(ROWS) == {"stream", "document", "note"}


def _statements() -> Iterator[tuple[str, Statement | Lookup]]:
    """All statements of the store, found where they are."""
    for module_info in pkgutil.iter_modules(broker.store.__path__):
        if module_info.ispkg or module_info.name == "migrations":
            continue
        module = importlib.import_module(f"broker.store.{module_info.name}")
        for name, value in vars(module).items():
            family = value.items() if isinstance(value, dict) else [("", value)]
            yield from (
                (f"{module_info.name}.{name}{key}", one) for key, one in family if isinstance(one, Statement | Lookup)
            )


ALL = dict(_statements())


def test_the_statements_are_found() -> None:
    assert len(ALL) > 60
    assert "deciding.CHECKPOINTS" in ALL
    assert "look.DUE" in ALL


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ALL)
def test_every_statement_can_be_said_in_every_dialect(name: str, dialect: str) -> None:
    one = ALL[name]
    text = one.text(DIALECTS[dialect], 2) if isinstance(one, Lookup) else one.text(DIALECTS[dialect])
    marks = text.sql.count("?") if dialect == "sqlite" else len(set(re.findall(r"\$\d+", text.sql)))
    names = (*one._names, "first", "second") if isinstance(one, Lookup) else one._names
    assert len(text.parameters(tuple(names))) == marks
    assert ("FOR UPDATE" in text.sql) <= (dialect == "postgresql")
    assert "crossfade_now" not in text.sql or dialect == "sqlite"


def test_a_statement_about_one_row_can_be_said_once_for_many() -> None:
    things = table("things", column("id", String), column("a", Integer), column("b", Integer))
    update = things.update().values(a=given("a"), b=7).where(things.c.id == given("id"))
    statement = Statement(update, "unused", "id", "a", key=("id",))
    rows = [(0, "x", 1), (0, 'y"\\', None)]
    bulk = statement.bulk(DIALECTS["postgresql"], rows)
    assert bulk is not None
    assert "UPDATE things SET a=rows.given_a" in bulk.sql
    assert bulk.parameters(rows) == [7, "{1,NULL}", r'{"x","y\"\\"}']


def test_the_same_row_twice_is_not_said_at_once() -> None:
    things = table("things", column("id", String), column("a", Integer))
    statement = Statement(things.update().values(a=given("a")).where(things.c.id == given("id")), "id", "a", key=["id"])
    assert statement.bulk(DIALECTS["postgresql"], [("x", 1), ("x", 2)]) is None


def test_parameters_are_arranged_as_the_text_wants_them_and_literals_are_filled_in() -> None:
    things = table("things", column("a"), column("b"), column("c"))
    asked = select(things.c.a).where(things.c.b == given("b"), things.c.c == "given", things.c.a == given("a"))
    text = Statement(asked, "a", "unused", "b").text(DIALECTS["sqlite"])
    assert text.parameters((1, 2, 3)) == (3, "given", 1)
    assert text.parameter_rows([(1, 2, 3), (4, 5, 6)]) == [(3, "given", 1), (6, "given", 4)]


def test_a_literal_named_like_a_parameter_is_not_taken_for_it() -> None:
    things = table("things", column("claim"))
    text = Statement(things.update().values(claim="").where(things.c.claim == given("claim")), "claim").text(
        DIALECTS["sqlite"]
    )
    assert text.parameters(("me",)) == ("", "me")


def test_a_parameter_that_nobody_gives_is_a_fault_at_once() -> None:
    with pytest.raises(ValueError, match="given_b"):
        Statement(select(literal(1)).where(bindparam("given_b") == 1), "a").text(DIALECTS["sqlite"])


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (5, 8), (512, 512)])
def test_lists_are_padded_to_few_sizes_with_a_value_that_is_there(count: int, size: int) -> None:
    values = list(range(count))
    assert len(padded(values)) == size
    assert set(padded(values)) == set(values)
