"""Names for virtual boards: ports and serials, the same for the same seed."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Final

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import RackBoard, RackFile

# Flash ids of real pico boards begin so: the flash maker's part of the id.
_RP2040_PREFIX: Final = "E6616407E3"
_SERIAL_LENGTH: Final = 16


class ChipChoice(StrEnum):
    """Chips of a set of boards."""

    RP2040 = "rp2040"
    RP2350 = "rp2350"
    MIXED = "mixed"

    def at(self, index: int) -> Chip:
        """The chip of the board at ``index``; mixed boards alternate."""
        if self is ChipChoice.MIXED:
            return (Chip.RP2040, Chip.RP2350)[index % 2]
        return Chip(self.value)


def layout(count: int, chips: ChipChoice, firmware: str, seed: int, emulated: int = 0) -> RackFile:
    """``count`` boards on the ports of one hub, and then those that are emulated."""
    rack = RackFile()
    for index in range(count):
        rack = add_board(rack, chips.at(index), firmware, seed)
    for _ in range(emulated):
        rack = add_board(rack, Chip.RP2040, firmware, seed, emulated=True)
    return rack


def add_board(
    rack: RackFile,
    chip: Chip,
    firmware: str,
    seed: int,
    port: str | None = None,
    serial: str | None = None,
    *,
    emulated: bool = False,
) -> RackFile:
    """``rack`` with one more board, on the first free port unless one is named."""
    taken = {board.port for board in rack.boards}
    index = next(i for i in range(len(taken) + 1) if _port(i) not in taken)
    board = RackBoard(
        port=port or _port(index),
        serial=serial or _serial(seed, index, chip),
        chip=chip,
        firmware=firmware,
        emulated=emulated,
    )
    return RackFile(boards=(*rack.boards, board))


def _port(index: int) -> str:
    # A hub has few ports; these ones are as many as a USB bus can address.
    return f"1-{index // 127 + 1}.{index % 127 + 1}"


def _serial(seed: int, index: int, chip: Chip) -> str:
    digest = hashlib.sha256(f"{seed}/{index}/{chip.value}".encode()).hexdigest().upper()
    prefix = _RP2040_PREFIX if chip is Chip.RP2040 else ""
    return (prefix + digest)[:_SERIAL_LENGTH]
