"""What a run under way has to do without for now, in a few words: the broker, control, boards."""

from __future__ import annotations

from collections.abc import Collection

from icebus.client._connection.connection import Connection
from icebus.client._reservation.document import held
from icebus.client._reservation.reservation import Reservation
from icebus.schemas.operations.reservations import HoldState


def missing(connection: Connection, reservation: Reservation, serials: Collection[str]) -> str:
    """What is away; empty while all is there.

    Args:
        connection: to the farm.
        reservation: that holds the boards.
        serials: the boards of the run.
    """
    since = connection.farm_watch.away_since
    when = f" since {since:%H:%M:%S}" if since is not None else ""
    if connection.bus.problem is not None:
        return f"the broker is away{when}"
    if since is not None:
        return f"control is away{when}"
    boards = [each for each in held(reservation.document) if each.serial in serials]
    away = [
        each
        for each in boards
        if each.state is not HoldState.SERVING or connection.workers.problem(each.worker)
    ]
    if not away:
        return ""
    if len(away) == 1:
        return f"board {away[0].serial} is away: {away[0].reason or 'its worker is lost'}"
    return f"{len(away)} of {len(boards)} boards are away"
