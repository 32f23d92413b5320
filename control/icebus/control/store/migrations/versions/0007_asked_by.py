"""Devices: who asked for their last reboot or reflash."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Remember who asked."""
    op.add_column("devices", sa.Column("asked_by", sa.String(64), nullable=True))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("devices", "asked_by")
