"""Which devices users have held in the last week."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Count hours from now on, also of what is held now."""
    op.create_table(
        "uses",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("user", sa.String(64), nullable=False),
        sa.Column("reservation", sa.String(64), nullable=False),
        sa.Column("serial", sa.String(64), nullable=False),
        sa.Column("began", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended", sa.DateTime(timezone=True), nullable=True),
    )
    for column in ("user", "reservation", "ended"):
        op.create_index(f"ix_uses_{column}", "uses", [column])
    op.execute(
        sa.text(
            'INSERT INTO uses ("user", reservation, serial, began) '
            'SELECT reservations."user", holds.reservation, holds.serial, CURRENT_TIMESTAMP '
            "FROM holds JOIN reservations ON reservations.id = holds.reservation "
            "WHERE holds.state != 'released'"
        )
    )


def downgrade() -> None:
    """Forget it."""
    op.drop_table("uses")
