"""The states that every device goes through, as opposed to those of kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icebus.worker.states._framework import State

if TYPE_CHECKING:
    from icebus.worker.hardware.board import ConnectedBoard
    from icebus.worker.states._hosts import CoreHost


class CoreState(State):
    """A state that may say how a board came out of a test, a flash, a reboot.

    Attributes:
        device: whose state this is.
    """

    device: CoreHost

    def on_bootloader(self, board: ConnectedBoard) -> None:
        """The board has come up in its bootloader; unless asked for, something is wrong."""
        self.device.fail("the board went to its bootloader")

    def on_desired(self) -> None:
        """Control wants something else; a state that is busy is asked again when it is done."""
