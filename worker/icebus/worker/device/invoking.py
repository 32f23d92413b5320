"""Calling a method of what a device does now, for the reservation that it serves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from pydantic import JsonValue

from icebus.schemas.errors import (
    DeviceNotHeld,
    DeviceNotServing,
    IcebusError,
    InternalError,
    UnknownMethod,
)
from icebus.worker.states import Hold, Reservable, State

log = logging.getLogger(__name__)


def invoke(
    device: str, state: State | None, hold: Hold, method: str, arguments: dict[str, Any]
) -> JsonValue:
    """What ``method`` gives.

    Raises:
        DeviceNotServing: the device does something else.
        DeviceNotHeld: it serves somebody else.
        UnknownMethod: what it serves as has no such method.
        IcebusError: the method's own.
        InternalError: the method raised what is not its to raise.
    """
    if not isinstance(state, Reservable):
        doing = "nothing yet" if state is None else state.reported.value
        raise DeviceNotServing(f"device {device} is not serving now ({doing})")
    if state.hold != hold:
        raise DeviceNotHeld(f"device {device} is not held by reservation {hold.reservation}")
    if method not in state.methods:
        raise UnknownMethod(f"kind {state.kind} has no method {method!r}")
    try:
        return state.methods[method].call(state, arguments)
    except IcebusError:
        raise
    except Exception as error:
        log.exception("method %s of %s failed", method, device)
        raise InternalError(f"method {method} failed: {error!r}") from error


def answer(future: Future[JsonValue], call: Callable[[], JsonValue]) -> None:
    """Have ``future`` end as ``call`` does."""
    try:
        future.set_result(call())
    except IcebusError as error:
        future.set_exception(error)
