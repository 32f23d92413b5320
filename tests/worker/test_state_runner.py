"""Calling a method of what a device does: who is refused, and why, without a device."""

from __future__ import annotations

import pytest

from icebus.schemas.errors import (
    DeviceNotHeld,
    DeviceNotServing,
    IcebusError,
    InternalError,
    QueueFull,
    UnknownMethod,
)
from icebus.worker.device.state_runner import invoke
from icebus.worker.states import Hold, Reservable, State, method, reservable
from icebus.worker.states.core import Ready

HOLD = Hold("r1", "alice")


@reservable("echo", firmware="pulse_count")
class Echo(Reservable):
    """Says what it is told."""

    @method
    def say(self, word: str) -> str:
        """Say it."""
        if word == "full":
            raise QueueFull("no more")
        if word == "odd":
            raise ZeroDivisionError("not foreseen")
        return word


ECHO = Echo(HOLD, Echo.Args())


def test_given_its_holder_then_the_method_is_called() -> None:
    assert invoke("S1", ECHO, HOLD, "say", {"word": "hello"}) == "hello"


@pytest.mark.parametrize(
    ("state", "hold", "method", "word", "error"),
    [
        (None, HOLD, "say", "hello", DeviceNotServing),
        (Ready("pulse_count", 0), HOLD, "say", "hello", DeviceNotServing),
        (ECHO, Hold("r1", "bob"), "say", "hello", DeviceNotHeld),
        (ECHO, Hold("r2", "alice"), "say", "hello", DeviceNotHeld),
        (ECHO, HOLD, "shout", "hello", UnknownMethod),
        (ECHO, HOLD, "on_exit", "hello", UnknownMethod),
        (ECHO, HOLD, "say", "full", QueueFull),
        (ECHO, HOLD, "say", "odd", InternalError),
    ],
)
def test_given_what_can_not_be_called_then_the_error_says_why(
    state: State | None, hold: Hold, method: str, word: str, error: type[IcebusError]
) -> None:
    with pytest.raises(IcebusError) as refusal:
        invoke("S1", state, hold, method, {"word": word})
    assert type(refusal.value) is error
