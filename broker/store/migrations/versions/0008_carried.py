"""Finding the stages that were carried elsewhere: lately, for the storm brake, and of one run. Only adds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
oldest = "0001"

_CARRIED = sa.text("why = 'failover'")


def upgrade() -> None:
    for name, columns in (("attempt_carried", ["created_at"]), ("attempt_carried_run", ["run_id", "created_at"])):
        op.create_index(name, "attempt", columns, sqlite_where=_CARRIED, postgresql_where=_CARRIED)


def downgrade() -> None:
    raise NotImplementedError("steps only add: the older code works with this shape; restore a backup to go back")
