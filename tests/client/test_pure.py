"""Small decisions: what a worker's word means, what a reservation's document says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from icebus.client import PulseCountHandler
from icebus.client._connection.worker_loss import find_loss
from icebus.client._evaluating import options
from icebus.client._evaluating.running import board_calls, run
from icebus.client._handlers import EventHandler, event_names
from icebus.client._reservation import document as holding
from icebus.schemas.components import WorkerPhase, WorkerState
from icebus.schemas.errors import DeviceFailed, DeviceNotHeld, DeviceUnplugged, WorkerLost
from icebus.schemas.message import now
from icebus.schemas.operations.reservations import (
    DeviceFailedEvent,
    EndReason,
    HeldDevice,
    HoldState,
    Reservation,
    ReservationState,
)


def state(phase: str, session: str = "s1") -> WorkerState:
    return WorkerState(state=WorkerPhase(phase), session=session)


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        (None, state("ready"), False),
        (None, state("lost"), True),
        (state("ready"), state("ready"), False),
        (state("ready"), state("draining"), False),
        (state("ready"), state("lost"), True),
        (state("ready"), state("offline"), True),
        (state("lost"), state("ready"), False),
        (state("ready"), state("init", "s2"), True),
        (state("ready", "s2"), state("lost", "s1"), False),
        (state("ready", "s2"), state("offline", "s1"), False),
    ],
)
def test_given_a_worker_s_word_when_judged_then_only_a_true_loss_is_one(
    before: WorkerState | None, after: WorkerState, lost: bool
) -> None:
    assert isinstance(find_loss("w", before, after), WorkerLost) == lost


def document(*devices: HeldDevice, **changes: Any) -> Reservation:
    start = now()
    return Reservation(
        **{
            "id": "r",
            "user": "u",
            "kind": "k",
            "state": ReservationState.ACTIVE,
            "devices": list(devices),
            "created": start,
            "until": start + timedelta(seconds=60),
            **changes,
        }
    )


def held(serial: str, state: HoldState, worker: str = "w1") -> HeldDevice:
    return HeldDevice(serial=serial, worker=worker, state=state, reason="smoke")


def test_given_a_document_when_read_then_its_devices_are_told_apart() -> None:
    mixed = document(
        held("a", HoldState.SERVING),
        held("b", HoldState.PREPARING),
        held("c", HoldState.FAILED),
        held("d", HoldState.RELEASED),
    )
    assert holding.serving(mixed) == ["a"]
    assert holding.preparing(mixed) == ["b", "c"]
    assert [d.serial for d in holding.held(mixed)] == ["a", "b", "c"]
    assert {s: type(e) for s, e in holding.device_errors(mixed).items()} == {
        "c": DeviceFailed,
        "d": DeviceNotHeld,
    }
    assert holding.device_errors(document(*mixed.devices, state=ReservationState.ENDED)) == {}


def test_given_a_broker_that_is_away_then_a_run_gives_up_before_a_call_of_it_does() -> None:
    assert board_calls.TIMEOUT > options.BROKER_AWAY + run.TICK


def test_given_two_documents_when_compared_then_boards_that_moved_are_named() -> None:
    before = document(held("a", HoldState.SERVING), held("b", HoldState.SERVING))
    after = document(held("a", HoldState.SERVING), held("b", HoldState.PREPARING, "w2"))
    assert {s: type(e) for s, e in holding.moved_errors(before, after).items()} == {
        "b": DeviceUnplugged
    }


def test_given_a_failure_or_an_end_when_told_then_the_error_says_which() -> None:
    failed = DeviceFailedEvent(reservation="r", serial="a", code="worker_lost", reason="killed")
    assert isinstance(holding.error_of_event(failed), WorkerLost)
    assert holding.ended_error("r", EndReason.CLIENT_LOST).details["reason"] == "client_lost"
    assert holding.ended_error("r", None).details["reason"] == "over"


def test_given_a_handler_when_asked_for_hooks_then_only_its_own_are_found() -> None:
    class Mine(PulseCountHandler):
        def results(self, result: object) -> None:
            """Mine."""

        def blinked(self, event: object) -> None:
            """Of another kind."""

        def _private(self, event: object) -> None:
            """Not for the network."""

    mine = Mine()
    assert mine.hook("results") == mine.results
    assert mine.hook("blinked") == mine.blinked
    for name in ("failures", "_private", "__init__", "__class__", "hook", "nonsense"):
        assert mine.hook(name) is None
    assert event_names(EventHandler) < event_names(PulseCountHandler)
    assert {"results", "failures", "finished"} < event_names(PulseCountHandler)
