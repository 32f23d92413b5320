"""What flashing and rebooting have in common: the way through the board's bootloader and back."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING

from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import IcebusError
from icebus.worker.device.lifecycle import preparing_or
from icebus.worker.hardware import flashing
from icebus.worker.hardware.bootloaders.bootloader import (
    BootloaderFailed,
    BootloaderUnreachable,
    StepLimit,
)
from icebus.worker.states.core.state import CoreState

if TYPE_CHECKING:
    from collections.abc import Callable

    from icebus.worker.hardware.board import ConnectedBoard
    from icebus.worker.hardware.port import Port
    from icebus.worker.loop import Callback

BOOTLOADER_DEADLINE = 10.0
ACT_DEADLINE = 60.0
RESTART_DEADLINE = 15.0
"""Seconds for each step; a real board takes about 1, 5 and 2 (unverified). A board whose chip is
emulated is given as many times more as it is slower."""


class ViaBootloader(CoreState):
    """Sends the board to its bootloader, has something done there, and waits for the application.

    The steps that block run on a helper thread; its end comes back through the loop.

    Args:
        reported: as what this appears on the bus.
        reason: what is done and why, for people.
    """

    outlives_port = True  # between its two modes a board is absent

    def __init__(self, reported: DeviceState, reason: str) -> None:
        super().__init__()
        self.reported = reported
        self.reason = reason
        self._acted = False
        self._limit: StepLimit | None = None

    @abstractmethod
    def step(self, board: ConnectedBoard, limit: StepLimit) -> Callable[[], None]:
        """What to do in the bootloader, as a step that may block but ends by ``limit``.

        Raises:
            IcebusError: this board must not be given it.
        """

    @abstractmethod
    def returned(self) -> None:
        """The application is back."""

    def on_enter(self) -> None:
        """Go where the board is: ask its application to leave, or use its bootloader."""
        board = self.device.board
        if board is None:
            self.device.lost("the board went away before it could be sent to its bootloader")
        elif board.in_bootloader:
            self.on_bootloader(board)
        else:
            self.device.close()
            self.after(BOOTLOADER_DEADLINE, self._not_in_bootloader)
            if board.tty is not None:
                self._run_on_thread(partial(flashing.touch, board.tty), lambda: None)

    def on_bootloader(self, board: ConnectedBoard) -> None:
        """Do there what it was sent for."""
        if self._acted:
            self.device.fail("came back in its bootloader")
            return
        self._limit = StepLimit(Deadline.after(ACT_DEADLINE * board.slowness))
        try:
            step = self.step(board, self._limit)
        except IcebusError as error:
            self.device.fail(error.message)
            return
        self._acted = True
        self.device.progress(0.5)
        self._run_on_thread(step, self._await_restart)
        self.after(ACT_DEADLINE + RESTART_DEADLINE, self._not_restarted)

    def on_add(self, port: Port) -> None:
        """The application is there: see what it is."""
        if self._acted:
            self.returned()

    def on_exit(self, why: IcebusError) -> None:
        """Have the step, if it goes on, end by itself: nobody waits for it any more."""
        if self._limit is not None:
            self._limit.abandoned.set()

    def on_desired(self) -> None:
        """The work goes on; it may now be for a reservation."""
        self.reported = preparing_or(self.device.desired, self.reported)

    def _run_on_thread(self, step: Callback, then: Callback) -> None:
        self.device.run_on_thread(self, step, then, self._failed)

    def _failed(self, problem: Exception) -> None:
        board = self.device.board
        if self._acted and board is not None and not board.in_bootloader:
            self._await_restart()  # it has started its application meanwhile, whose port is opened
        elif isinstance(problem, BootloaderUnreachable):
            self.device.fail(f"its bootloader can't be reached: {problem}")
        elif isinstance(problem, BootloaderFailed):
            self.device.fail(f"its bootloader: {problem}")
        elif self._acted:
            # A bootloader that reboots at the last byte makes the step look as if it had failed.
            self._await_restart()
        else:
            self.device.fail(f"could not be sent to its bootloader: {problem}")

    def _await_restart(self) -> None:
        self.device.progress(0.9)
        self.after(RESTART_DEADLINE, self._not_restarted)

    def _not_in_bootloader(self) -> None:
        if not self._acted:
            self.device.fail("did not go to its bootloader")

    def _not_restarted(self) -> None:
        self.device.fail("did not come back from its bootloader")
