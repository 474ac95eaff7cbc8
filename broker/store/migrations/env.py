"""Run by Alembic: takes the steps on the connection, and inside the transaction, of `broker.store.migrate`."""

from __future__ import annotations

from alembic import context

from broker.store.schema import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run `crossfade db upgrade`: these steps are taken inside its transaction")

# batch: SQLite changes a column by copying the table
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
