"""How a reservation shows itself where people look: in a prompt, in a notebook. Pure."""

from __future__ import annotations

from icebus.client._reservation import document as documents
from icebus.client._reservation.queue_place import Waiting
from icebus.schemas.errors import IcebusError
from icebus.schemas.message import now
from icebus.schemas.operations.reservations import HoldState, Reservation
from icebus.schemas.shown import html_rows
from icebus.schemas.wording import counted, show_duration

LISTED = 4
"""Boards that are named in a line."""


def summary(document: Reservation, ended: IcebusError | None, *, extended: bool) -> str:
    """Whose it is, what for, its boards, and what time is left of it.

    Args:
        document: the reservation as control last told it.
        ended: why it is over; None while it lives.
        extended: whether its end is moved for as long as the client lives.
    """
    return f"{document.id} of {document.user}, {document.kind}: " + ", ".join(
        [_boards(document), _time(document, ended, extended=extended)]
    )


def table(document: Reservation, ended: IcebusError | None, name: str, *, extended: bool) -> str:
    """The same as HTML, with a row for each board.

    Args:
        document: the reservation as control last told it.
        ended: why it is over; None while it lives.
        name: what the object is called.
        extended: whether its end is moved for as long as the client lives.
    """
    rows = [[d.serial, d.worker, d.state.value, d.reason] for d in documents.held(document)]
    caption = f"{name} {summary(document, ended, extended=extended)}"
    return html_rows(caption, ["serial", "worker", "state", "reason"], rows)


def _boards(document: Reservation) -> str:
    held = documents.held(document)
    if not held:
        return "no boards yet" if documents.is_queued(document) else "no boards"
    named = [
        each.serial if each.state is HoldState.SERVING else f"{each.serial} {each.state}"
        for each in held[:LISTED]
    ]
    more = ", …" if len(held) > LISTED else ""
    return f"{counted(len(held), 'board')} ({', '.join(named)}{more})"


def _time(document: Reservation, ended: IcebusError | None, *, extended: bool) -> str:
    if ended is not None or document.state in documents.OVER:
        reason = document.reason or getattr(ended, "details", {}).get("reason") or "ended"
        return f"over: {reason}"
    waiting = Waiting.of(document)
    if waiting is not None:
        return f"waits at position {waiting.position}: {waiting.reason}"
    left = show_duration((document.until - now()).total_seconds())
    return f"{left} left" + (", extended while the client lives" if extended else "")
