"""Runs a device's states: their hooks, and the methods that clients call.

What a hook does not foresee is the device's failure, what a method does not foresee the call's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from pydantic import JsonValue

from icebus.schemas.errors import (
    DeviceNotHeld,
    DeviceNotServing,
    IcebusError,
    InternalError,
    JournalUnavailable,
    UnknownMethod,
)
from icebus.schemas.programs.logs import about
from icebus.worker.loop import Callback, Loop, Timer
from icebus.worker.states import Hold, Reservable, State

log = logging.getLogger(__name__)


class StateRunner:
    """Holds the one state of a device that is alive. Used on the device's loop.

    Args:
        loop: of the device.
        name: of the device, for the log.
        on_failure: called with the error that the state has not foreseen.
        on_journal: called when the device's journal can't be used.

    Attributes:
        state: the one that is alive.
    """

    def __init__(
        self,
        loop: Loop,
        name: Callable[[], str],
        on_failure: Callable[[BaseException], None],
        on_journal: Callable[[JournalUnavailable], None],
    ) -> None:
        self.state: State | None = None
        self._loop = loop
        self._name = name
        self._on_failure = on_failure
        self._on_journal = on_journal

    def run(self, state: State, step: Callback) -> None:
        """Let ``state`` do something."""
        try:
            step()
        except JournalUnavailable as error:
            log.warning("device %s: %s", name := self._name(), error.message, extra=about(name))
            if self.state is state:
                self._on_journal(error)
        except (Exception, SystemExit) as error:
            name, doing = self._name(), type(state).__name__
            log.exception("device %s: state %s failed", name, doing, extra=about(name))
            if self.state is state:
                self._on_failure(error)

    def run_if_alive(self, state: State, step: Callback) -> None:
        """Let ``state`` do something, unless it has ended meanwhile."""
        if state.alive:
            self.run(state, step)

    def after(self, state: State, seconds: float, callback: Callback) -> Timer:
        """Let ``state`` do something in ``seconds``."""
        return self._loop.call_later(seconds, lambda: self.run(state, callback))

    def end(self, why: IcebusError) -> None:
        """End the state, if there is one."""
        if self.state is None:
            return
        state, self.state = self.state, None
        try:
            state.leave(why)
        except (Exception, SystemExit):
            name, doing = self._name(), type(state).__name__
            log.exception("device %s: leaving %s failed", name, doing, extra=about(name))


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
    except (Exception, SystemExit) as error:
        log.exception(
            "method %s of %s failed",
            method,
            device,
            extra=about(device, reservation=hold.reservation, user=hold.user),
        )
        raise InternalError(f"method {method} failed: {error!r}") from error
