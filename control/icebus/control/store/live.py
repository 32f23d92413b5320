"""What lives, as conditions of queries.

In the very words of the partial indexes: with a parameter in their place neither SQLite nor a
prepared statement of PostgreSQL's would know that the index has all it needs, and each reservation
that ever ended would be read to see that it has.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, literal_column
from sqlmodel import col

from icebus.control.store.tables import HoldRow, ReservationRow

IS_LIVE: ColumnElement[bool] = col(ReservationRow.state) != literal_column("'ended'")
"""Of reservations: those that hold devices, or wait for them."""

HAS_ENDED: ColumnElement[bool] = col(ReservationRow.state) == literal_column("'ended'")

IS_HELD: ColumnElement[bool] = col(HoldRow.state) != literal_column("'released'")
"""Of holds: those whose device can't be given to anybody else."""
