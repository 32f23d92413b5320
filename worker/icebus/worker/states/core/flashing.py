"""Putting another firmware on a board."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from icebus.schemas.devices import DeviceState
from icebus.worker.hardware import flashing
from icebus.worker.states.core.via_bootloader import ViaBootloader

if TYPE_CHECKING:
    from collections.abc import Callable

    from icebus.worker.hardware.board import ConnectedBoard
    from icebus.worker.hardware.bootloaders.bootloader import StepLimit


class Flashing(ViaBootloader):
    """Gives an image to the bootloader.

    Args:
        reported: as what this appears on the bus: flashing or preparing.
        firmware: its name.
        image: the UF2 file.
        reason: why, where it is not the usual way to another firmware.

    Attributes:
        firmware: its name.
    """

    def __init__(
        self, reported: DeviceState, firmware: str, image: bytes, reason: str = ""
    ) -> None:
        super().__init__(reported, reason or f"flashing {firmware}")
        self.firmware = firmware
        self._image = image
        self._version = ""

    def step(self, board: ConnectedBoard, limit: StepLimit) -> Callable[[], None]:
        """Give it the image."""
        self._version = flashing.check_image(self._image, board)
        return partial(flashing.flash, self._image, board, limit)

    def returned(self) -> None:
        """See that it runs what it was given: only that proves it."""
        self.device.found(expect=self.firmware, version=self._version)
