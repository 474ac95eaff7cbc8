"""The highest number of a stage's attempts, for a person may make an earlier one the current one again. Only adds.

Code that does not know it would give a number twice then, which its writes refuse: it does no harm, and gets no further
with such a stage.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None
oldest = "0001"


def upgrade() -> None:
    op.add_column("stage", sa.Column("begun", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    raise NotImplementedError("steps only add: the older code works with this shape; restore a backup to go back")
