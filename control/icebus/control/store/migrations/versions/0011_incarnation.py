"""Reservations: which of those who were ever called so they belong to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Remember it of new ones; of those there are it is not known."""
    op.add_column("reservations", sa.Column("incarnation", sa.String(64), nullable=True))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("reservations", "incarnation")
