"""Who is told of what, and by when runs and stages are to be done. Only adds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None
oldest = "0001"


def upgrade() -> None:
    op.add_column("run", sa.Column("notify", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("run", sa.Column("deadlines", sa.Integer(), server_default="0", nullable=False))
    op.add_column("run", sa.Column("deadline_at", sa.BigInteger(), nullable=True))
    op.add_column("run", sa.Column("event_at", sa.BigInteger(), nullable=True))
    _alert()
    _deadline()


def _alert() -> None:
    op.create_table(
        "alert",
        sa.Column("id", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("key", "run_id")),
        sa.Column("n", sa.Integer(), server_default="-1", nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("about", "kind", "address", "body")),
        *(sa.Column(name, sa.Integer(), server_default="0", nullable=False) for name in ("stands", "repeats")),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        *(sa.Column(name, sa.Integer(), server_default="0", nullable=False) for name in ("number", "tries")),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("error", "claim", "acked_by")),
        sa.Column("acked_at", sa.BigInteger(), nullable=True),
        sa.Column("ack_reason", sa.Text(), nullable=False),
        sa.Column("over_at", sa.BigInteger(), nullable=True),
        sa.Column("over_why", sa.Text(), nullable=False),
        sa.Column("over_sent_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("alert_due", "alert", ["due_at"], unique=False)
    op.create_index("alert_run", "alert", ["run_id", "n"], unique=False)
    op.create_index("alert_created", "alert", ["created_at"], unique=False)


def _deadline() -> None:
    op.create_table(
        "deadline",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("on_miss", "state")),
        sa.Column("episodes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "n"),
        sqlite_with_rowid=False,
    )
    op.create_index("deadline_due", "deadline", ["run_id", "due_at"], unique=False)


def downgrade() -> None:
    raise NotImplementedError("steps only add: the older code works with this shape; restore a backup to go back")
