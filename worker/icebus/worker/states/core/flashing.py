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


class Flashing(ViaBootloader):
    """Copies an image to the bootloader.

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

    def step(self, board: ConnectedBoard) -> Callable[[], None]:
        """Copy the image."""
        flashing.check_family(self._image, board)
        return partial(flashing.copy, self._image, board)

    def returned(self) -> None:
        """See that it runs what was copied."""
        self.device.found(expect=self.firmware)
