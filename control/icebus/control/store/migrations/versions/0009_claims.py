"""Devices that several workers claim, and workers that were retired."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Remember who claims a device, and since when; and when a worker was retired."""
    op.add_column("devices", sa.Column("claimed_by", sa.JSON(), nullable=True))
    op.add_column("devices", sa.Column("claimed_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("workers", sa.Column("retired", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("workers", "retired")
    op.drop_column("devices", "claimed_since")
    op.drop_column("devices", "claimed_by")
