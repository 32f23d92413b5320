"""The outbox: how a message is carried is said by its topic, not by its row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Drop what the table of topics says."""
    op.drop_column("outbox", "retain")
    op.drop_column("outbox", "expiry")


def downgrade() -> None:
    """Have it again; the leader has sent by then what others left, or sends it unretained."""
    op.add_column(
        "outbox",
        sa.Column("retain", sa.Boolean(), nullable=False, server_default=sa.text("false")),
    )
    op.add_column("outbox", sa.Column("expiry", sa.Float(), nullable=True))
