"""Having a board start anew, with the firmware it has."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from icebus.worker.hardware import flashing
from icebus.worker.states.core.via_bootloader import ViaBootloader

if TYPE_CHECKING:
    from collections.abc import Callable

    from icebus.worker.hardware.board import ConnectedBoard
    from icebus.worker.hardware.bootloaders.bootloader import StepLimit


class Rebooting(ViaBootloader):
    """Asks the bootloader to start the application: no wire to a board resets it otherwise."""

    def step(self, board: ConnectedBoard, limit: StepLimit) -> Callable[[], None]:
        """Ask it."""
        return partial(flashing.reboot, board, limit)

    def returned(self) -> None:
        """See what it runs, and whether it is well."""
        self.device.found()
