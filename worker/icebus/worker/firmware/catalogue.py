"""Finds the image of a firmware for a board."""

from __future__ import annotations

from icebus.schemas.boards.firmware import FirmwareMarker, marker_image
from icebus.schemas.errors import FirmwareUnknown
from icebus.worker.hardware.board import Board

DEFAULT = "default"
"""What a board runs when nobody needs it: it says so again and again, which shows that it lives."""


def image(name: str, board: Board) -> bytes:
    """The UF2 file of the firmware called ``name`` for ``board``.

    Virtual boards are given marker images: true UF2 files that hold nothing but the firmware's
    name, under a family that real bootloaders refuse.

    Raises:
        FirmwareUnknown: there is no such image.
    """
    if board.virtual:
        return marker_image(FirmwareMarker(name=name, chip=board.chip))
    raise FirmwareUnknown(
        f"no {name!r} image for {board.chip} is installed; flash the board by hand, it is then "
        "recognised by what it says",
        firmware=name,
        chip=board.chip,
    )
