"""Reservations: since when their clients are absent, and the estimates that were published."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Rename the one column, and add the other."""
    op.alter_column("reservations", "orphaned_since", new_column_name="absent_since")
    op.add_column(
        "reservations", sa.Column("published_estimate", sa.DateTime(timezone=True), nullable=True)
    )


def downgrade() -> None:
    """Give the one its old name again, and drop the other."""
    op.drop_column("reservations", "published_estimate")
    op.alter_column("reservations", "absent_since", new_column_name="orphaned_since")
