"""Devices, reservations, holds and the memory of requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "devices",
        sa.Column("serial", sa.String(64), primary_key=True),
        sa.Column("worker", sa.String(64), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
    )
    op.create_index("ix_devices_worker", "devices", ["worker"])
    op.create_table(
        "reservations",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("user", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("warn_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("client", sa.String(64), nullable=True),
        sa.Column("orphaned_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.String(16), nullable=True),
        sa.Column("sequence", sa.Integer(), nullable=False),
    )
    op.create_index("ix_reservations_user", "reservations", ["user"])
    op.create_index("ix_reservations_state", "reservations", ["state"])
    op.create_table(
        "holds",
        sa.Column("reservation", sa.String(64), sa.ForeignKey("reservations.id"), primary_key=True),
        sa.Column("serial", sa.String(64), sa.ForeignKey("devices.serial"), primary_key=True),
        sa.Column("worker", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
    )
    op.create_index(
        "holds_one_live_per_device",
        "holds",
        ["serial"],
        unique=True,
        sqlite_where=sa.text("state != 'released'"),
        postgresql_where=sa.text("state != 'released'"),
    )
    op.create_table(
        "requests",
        sa.Column("user", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("reply", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_requests_at", "requests", ["at"])


def downgrade() -> None:
    """Drop them."""
    for table in ("requests", "holds", "reservations", "devices"):
        op.drop_table(table)
