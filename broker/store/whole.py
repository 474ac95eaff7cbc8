"""Questions about all tables at once, for those who check a database."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Table, literal_column, select

from broker.store.connect import Tx
from broker.store.schema import metadata, run, stray
from broker.store.statement import Statement

FEW = 5


def _lost(table: Table) -> Statement:
    known = select(run.c.run_id)
    return Statement(
        select(table.c.run_id).distinct().where(table.c.run_id.not_in(known)).limit(literal_column(str(FEW)))
    )


LOST = {
    table.name: _lost(table)
    for table in metadata.sorted_tables
    if "run_id" in table.c and table is not run and table is not stray
}
"""By table; a stray may be of a run that nobody knows."""


def lost_rows(tx: Tx) -> Sequence[tuple[str, str]]:
    """(table, run id) of rows whose run is not there."""
    return [(name, str(run_id)) for name, statement in LOST.items() for (run_id,) in tx.rows(statement)]
