"""Runs the hooks of a device's states. What one does not foresee is the device's failure."""

from __future__ import annotations

import logging
from collections.abc import Callable

from icebus.schemas.errors import IcebusError, JournalUnavailable
from icebus.worker.loop import Callback, Loop, Timer
from icebus.worker.states import State

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
        on_failure: Callable[[Exception], None],
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
            log.warning("device %s: %s", self._name(), error.message)
            if self.state is state:
                self._on_journal(error)
        except Exception as error:
            log.exception("device %s: state %s failed", self._name(), type(state).__name__)
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
        except Exception:
            log.exception("device %s: leaving %s failed", self._name(), type(state).__name__)
