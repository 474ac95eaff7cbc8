"""Where evidence comes from, and what operators say of a site against it. Only adds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
oldest = "0001"


def upgrade() -> None:
    for name in ("source", "word", "subject"):
        op.add_column("evidence", sa.Column(name, sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("evidence", sa.Column("until", sa.BigInteger(), nullable=True))
    for name in ("override", "override_by", "override_reason"):
        op.add_column("site", sa.Column(name, sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("site", sa.Column("override_until", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("steps only add: the older code works with this shape; restore a backup to go back")
