"""Sites that are evacuated or closed, and payloads that were asked for a checkpoint. Only adds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None
oldest = "0001"


def upgrade() -> None:
    for name in ("mode_to", "mode_then"):
        op.add_column("site", sa.Column(name, sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("site", sa.Column("clear_at", sa.BigInteger(), nullable=True))
    op.add_column("attempt", sa.Column("asked_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("steps only add: the older code works with this shape; restore a backup to go back")
