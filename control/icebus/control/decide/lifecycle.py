"""The life of a reservation and of each device in it, as tables of allowed transitions.

Nothing lingers in ``ending``: the devices of a reservation are let go in the transaction that ends
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from icebus.schemas.operations.reservations import HoldState, ReservationState

RESERVATION: Mapping[ReservationState, frozenset[ReservationState]] = {
    ReservationState.QUEUED: frozenset({ReservationState.PREPARING, ReservationState.ENDING}),
    ReservationState.PREPARING: frozenset({ReservationState.ACTIVE, ReservationState.ENDING}),
    ReservationState.ACTIVE: frozenset({ReservationState.ENDING}),
    ReservationState.ENDING: frozenset({ReservationState.ENDED}),
    ReservationState.ENDED: frozenset(),
}
"""From each state of a reservation, where it may go. Devices that fail do not end it."""

HOLD: Mapping[HoldState, frozenset[HoldState]] = {
    HoldState.PREPARING: frozenset({HoldState.SERVING, HoldState.FAILED, HoldState.RELEASED}),
    HoldState.SERVING: frozenset({HoldState.PREPARING, HoldState.FAILED, HoldState.RELEASED}),
    HoldState.FAILED: frozenset({HoldState.SERVING, HoldState.RELEASED}),
    HoldState.RELEASED: frozenset(),
}
"""From each state of a held device, where it may go. A failed one that is repaired says so once, by
serving again: its way there would only repeat the failure."""

LIVE_RESERVATIONS = tuple(state for state in ReservationState if RESERVATION[state])
"""States in which a reservation holds its devices, or waits for them."""

LIVE_HOLDS = tuple(state for state in HoldState if HOLD[state])
"""States in which a device can't be given to anybody else."""

S = TypeVar("S", ReservationState, HoldState)


class IllegalTransition(ValueError):
    """A step that the table does not have: a mistake in control, never in a request."""


def advance(before: ReservationState, after: ReservationState) -> ReservationState:
    """The state after a step of a reservation.

    Raises:
        IllegalTransition: the table has no such step.
    """
    return _step(RESERVATION, before, after)


def advance_hold(before: HoldState, after: HoldState) -> HoldState:
    """The state after a step of one device of a reservation.

    Raises:
        IllegalTransition: the table has no such step.
    """
    return _step(HOLD, before, after)


def _step(table: Mapping[S, frozenset[S]], before: S, after: S) -> S:
    if after not in table[before]:
        raise IllegalTransition(f"{before} does not lead to {after}")
    return after
