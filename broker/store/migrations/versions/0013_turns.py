"""How many runs of a workflow go on at once, and which of them wait for their turn. Only adds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None
oldest = "0001"


def upgrade() -> None:
    for name in ("at_once", "in_line"):
        op.add_column("run", sa.Column(name, sa.Integer(), server_default="0", nullable=False))
    op.create_index("run_in_line", "run", ["in_line"])


def downgrade() -> None:
    raise NotImplementedError("steps only add: the older code works with this shape; restore a backup to go back")
