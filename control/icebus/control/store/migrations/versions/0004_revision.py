"""Reservations: which of two documents is the newer one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Count what their documents have seen."""
    op.add_column(
        "reservations",
        sa.Column("revision", sa.Integer(), nullable=False, server_default=sa.text("0")),
    )


def downgrade() -> None:
    """Count it no more."""
    op.drop_column("reservations", "revision")
