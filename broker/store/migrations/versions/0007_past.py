"""Attempts that have ended, by site and time: what queues and work are judged by. Only adds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
oldest = "0001"


def upgrade() -> None:
    ended = sa.text("ended_at IS NOT NULL")
    op.create_index("attempt_past", "attempt", ["site", "ended_at"], sqlite_where=ended, postgresql_where=ended)


def downgrade() -> None:
    raise NotImplementedError("steps only add: the older code works with this shape; restore a backup to go back")
