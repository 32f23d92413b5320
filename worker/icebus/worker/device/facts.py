"""What is known of a device, apart from what it does."""

from __future__ import annotations

from dataclasses import dataclass

from icebus.schemas.devices import Desired
from icebus.worker.hardware.board import Board


@dataclass(frozen=True)
class Facts:
    """A device as it stands.

    Attributes:
        name: its serial, or where it is while that is not known.
        board: as it is plugged.
        desired: what control wants; None while it has not said.
        firmware: what the board was last proved to run; empty when it never was.
    """

    name: str
    board: Board | None
    desired: Desired | None
    firmware: str
