"""What is known of a reservation as its documents come: one that is over is never ready."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from icebus.client._reservation import document as documents
from icebus.client._reservation.reservation_state import ReservationState
from icebus.schemas.operations.reservations import (
    EndReason,
    HeldDevice,
    HoldState,
    Queue,
    Reservation,
)
from icebus.schemas.operations.reservations import ReservationState as State

START = datetime(2026, 1, 1, tzinfo=UTC)


def document(
    state: State,
    revision: int,
    *,
    user: str = "ann",
    holds: tuple[HoldState, ...] = (),
    reason: EndReason | None = None,
) -> Reservation:
    devices = [HeldDevice(serial=f"b{n}", worker="w", state=s) for n, s in enumerate(holds)]
    return Reservation(
        id="5f1c2e9a7b3d4c60",
        revision=revision,
        user=user,
        kind="pulsecount",
        state=state,
        devices=devices,
        created=START,
        until=START + timedelta(hours=1),
        reason=reason,
        queue=Queue(position=1, reason="2 in use") if state is State.QUEUED else None,
    )


def test_given_a_place_in_the_queue_when_the_wait_is_over_then_it_is_over_and_got_nothing() -> None:
    known = ReservationState(document(State.QUEUED, 0))
    change = known.update(document(State.ENDED, 1, reason=EndReason.NOT_IN_TIME))
    assert change is not None
    assert change.ended is not None
    assert known.ended is change.ended
    assert change.ended.details["reason"] == EndReason.NOT_IN_TIME
    assert not change.got_devices


def test_given_a_reservation_that_is_over_when_told_again_then_that_is_not_new() -> None:
    known = ReservationState(document(State.ACTIVE, 0, holds=(HoldState.SERVING,)))
    known.update(document(State.ENDING, 1, reason=EndReason.RELEASED))
    change = known.update(document(State.ENDED, 2, reason=EndReason.RELEASED))
    assert change is not None
    assert change.ended is None
    assert known.ended is not None


DOCUMENTS = st.lists(
    st.tuples(
        st.sampled_from(State),
        st.sampled_from(["ann", "ben"]),
        st.lists(st.sampled_from(HoldState), max_size=3).map(tuple),
    ),
    max_size=5,
)


@given(DOCUMENTS)
def test_given_any_documents_when_one_is_over_for_its_user_then_that_is_known_with_it_and_for_good(
    told: list[tuple[State, str, tuple[HoldState, ...]]],
) -> None:
    known = ReservationState(document(State.QUEUED, 0))
    over = False
    for revision, (state, user, holds) in enumerate(told, start=1):
        change = known.update(document(state, revision, user=user, holds=holds))
        assert change is not None
        is_new = not over and (state in documents.OVER or user != "ann")
        assert (change.ended is not None) == is_new
        over = over or is_new
        assert (known.ended is not None) == over
