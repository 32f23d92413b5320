"""Offers: to which of those who were ever called so they were made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Remember it of new ones; of those there are it is not known."""
    op.add_column("reservations", sa.Column("offered_incarnation", sa.String(64), nullable=True))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("reservations", "offered_incarnation")
