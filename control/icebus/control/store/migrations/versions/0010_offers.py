"""Reservations: to whom they are offered, and until when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Remember who may accept."""
    op.add_column("reservations", sa.Column("offered_to", sa.String(64), nullable=True))
    op.add_column(
        "reservations", sa.Column("offered_until", sa.DateTime(timezone=True), nullable=True)
    )
    op.create_index("ix_reservations_offered_to", "reservations", ["offered_to"])


def downgrade() -> None:
    """Forget it: what was offered stays with whoever has it."""
    op.drop_index("ix_reservations_offered_to", "reservations")
    op.drop_column("reservations", "offered_until")
    op.drop_column("reservations", "offered_to")
