"""What attempts cost, who may spend how much, and what sites say is left. Only adds.

Code that knows nothing of charges books nothing for the attempts that it begins or ends.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None
oldest = "0001"


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _size(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)


def _time(name: str, *, null: bool = True) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=null)


def upgrade() -> None:
    op.create_table(
        "charge",
        _text("run_id"),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        *map(_text, ("site", "account", "pool", "person", "lane", "reservation", "unit")),
        *map(_size, ("rate", "usd", "nodes", "estimated", "actual", "wasted")),
        *map(_text, ("cause", "source")),
        sa.Column("doubles", sa.Integer(), server_default="0", nullable=False),
        *map(_size, ("cut", "cut_wasted")),
        _time("booked_at", null=False),
        *map(_time, ("settled_at", "told", "told_at")),
        sa.PrimaryKeyConstraint("run_id", "n", "attempt"),
        sqlite_with_rowid=False,
    )
    op.create_index("charge_site", "charge", ["site", "settled_at"], unique=False)
    op.create_index("charge_account", "charge", ["account"], unique=False)
    op.create_index("charge_person", "charge", ["person"], unique=False)
    op.create_table(
        "cap",
        *map(_text, ("kind", "name")),
        *map(_time, ("node_hours", "usd")),
        *map(_text, ("by", "reason")),
        _time("at", null=False),
        sa.PrimaryKeyConstraint("kind", "name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "allocation",
        *map(_text, ("site", "account", "pool", "unit")),
        *map(_size, ("granted", "used")),
        _time("ends_at"),
        _time("read_at", null=False),
        *map(_text, ("detail", "warned")),
        sa.PrimaryKeyConstraint("site", "account", "pool"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    raise NotImplementedError("steps only add: the older code works with this shape; restore a backup to go back")
