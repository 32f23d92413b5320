"""Putting another firmware on a board."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import IcebusError
from icebus.worker.hardware import flashing
from icebus.worker.states.framework import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from icebus.worker.hardware.board import Board
    from icebus.worker.hardware.port import Port

BOOTLOADER_DEADLINE = 10.0
COPY_DEADLINE = 60.0
RESTART_DEADLINE = 15.0
"""Seconds for each step; a real board takes about 1, 5 and 2 (unverified)."""


class Flashing(State):
    """Sends the board to its bootloader, copies an image, and waits for the application.

    The steps that block run on a helper thread; its end comes back through the loop.

    Args:
        reported: as what this appears on the bus: flashing or preparing.
        firmware: its name.
        image: the UF2 file.
    """

    def __init__(self, reported: DeviceState, firmware: str, image: bytes) -> None:
        super().__init__()
        self.reported = reported
        self.reason = f"flashing {firmware}"
        self._firmware = firmware
        self._image = image
        self._copied = False

    def on_enter(self) -> None:
        """Go where the board is: ask its application to leave, or use its bootloader."""
        board = self.device.board
        if board is None:
            self.device.lost("the board went away before it could be flashed")
        elif board.in_bootloader:
            self.on_bootloader(board)
        elif board.tty is not None:
            tty = board.tty
            self.device.close()
            self._run(lambda: flashing.touch(tty), lambda: None)
            self.after(BOOTLOADER_DEADLINE, self._not_in_bootloader)

    def on_remove(self) -> None:
        """Between its two modes a board is absent."""

    def on_bootloader(self, board: Board) -> None:
        """Copy the image."""
        drive = board.drive
        if drive is None or self._copied:
            return
        try:
            flashing.check_family(self._image, board)
        except IcebusError as error:
            self.device.fail(error.message)
            return
        self._copied = True
        self.device.progress(0.5)
        self._run(lambda: flashing.copy(self._image, drive), self._await_restart)
        self.after(COPY_DEADLINE + RESTART_DEADLINE, self._not_restarted)

    def on_add(self, port: Port) -> None:
        """The application is there: see that it is the one we copied."""
        if self._copied:
            self.device.flashed(self._firmware)

    def on_desired(self) -> None:
        """The work goes on; it may now be for a reservation."""
        self.reported = self.device.purpose(self.reported)

    def _run(self, step: Callable[[], None], then: Callable[[], None]) -> None:
        device = self.device

        def work() -> None:
            try:
                step()
            except (OSError, IcebusError) as error:
                problem = str(error)
                device.loop.post(lambda: self._failed(problem))
            else:
                device.loop.post(lambda: self._if_alive(then))

        device.loop.offload(work, f"flash-{device.name}")

    def _if_alive(self, then: Callable[[], None]) -> None:
        if self.device.state is self:
            then()

    def _failed(self, problem: str) -> None:
        if self.device.state is not self:
            return
        if self._copied:
            # A bootloader that reboots at the last block makes the copy look as if it had failed.
            self._await_restart()
        else:
            self.device.fail(f"could not be sent to its bootloader: {problem}")

    def _await_restart(self) -> None:
        self.device.progress(0.9)
        self.after(RESTART_DEADLINE, self._not_restarted)

    def _not_in_bootloader(self) -> None:
        if not self._copied:
            self.device.fail("did not go to its bootloader")

    def _not_restarted(self) -> None:
        self.device.fail("did not come back from its bootloader")
