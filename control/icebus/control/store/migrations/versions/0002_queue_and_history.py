"""The queue, what administrators say, and the history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ZERO = sa.text("0")


def upgrade() -> None:
    """Add what reservations ask for, what is wanted of devices and workers, and the history."""
    op.add_column("devices", sa.Column("quarantined", sa.String(), nullable=True))
    for nonce in ("reboot", "reflash"):
        op.add_column(
            "devices", sa.Column(nonce, sa.BigInteger(), nullable=False, server_default=ZERO)
        )
    for column in (
        sa.Column("count", sa.Integer(), nullable=True),
        sa.Column("serials", sa.JSON(), nullable=True),
        sa.Column("selector", sa.String(), nullable=True),
        sa.Column("duration", sa.Float(), nullable=False, server_default=ZERO),
        sa.Column("priority", sa.Integer(), nullable=False, server_default=ZERO),
        sa.Column("replace", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("waits_for", sa.String(), nullable=True),
        sa.Column("estimate", sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column("reservations", column)
    op.create_table(
        "workers",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("draining", sa.String(), nullable=True),
    )
    op.create_table(
        "history",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("reservation", sa.String(64), nullable=True),
        sa.Column("user", sa.String(64), nullable=True),
        sa.Column("serial", sa.String(64), nullable=True),
        sa.Column("worker", sa.String(64), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sqlite_autoincrement=True,
    )
    for column_name in ("at", "reservation", "user", "serial"):
        op.create_index(f"ix_history_{column_name}", "history", [column_name])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("history")
    op.drop_table("workers")
    for column in (
        "estimate",
        "waits_for",
        "position",
        "replace",
        "priority",
        "duration",
        "selector",
        "serials",
        "count",
    ):
        op.drop_column("reservations", column)
    for column in ("reflash", "reboot", "quarantined"):
        op.drop_column("devices", column)
