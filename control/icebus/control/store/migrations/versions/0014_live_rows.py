"""Indexes of what lives, so that what has ended slows nobody; and a row to try writing with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

LIVE = "state != 'ended'"
ENDED = "state = 'ended'"


def upgrade() -> None:
    """Make them; the index of all states is of no use to anybody any more."""
    op.create_table(
        "probes",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("times", sa.BigInteger(), nullable=False),
    )
    op.drop_index("ix_reservations_state", "reservations")
    for name, column, which in (
        ("reservations_live", "user", LIVE),
        ("reservations_ended", "until", ENDED),
    ):
        where = sa.text(which)
        op.create_index(name, "reservations", [column], sqlite_where=where, postgresql_where=where)
    op.create_index("ix_holds_serial", "holds", ["serial"])


def downgrade() -> None:
    """Undo it."""
    op.drop_index("ix_holds_serial", "holds")
    op.drop_index("reservations_ended", "reservations")
    op.drop_index("reservations_live", "reservations")
    op.create_index("ix_reservations_state", "reservations", ["state"])
    op.drop_table("probes")
