"""Names for virtual boards: ports, and serials that are the rack's own or come of a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import RackBoard, RackFile

# Flash ids of real pico boards begin so: the flash maker's part of the id.
_RP2040_PREFIX: Final = "E6616407E3"
_SERIAL_LENGTH: Final = 16
_OWN_PREFIX: Final = "E661"

SerialOf = Callable[[int, Chip], str]
"""The serial of a board, from its place in the rack (from 0) and its chip."""


def seeded(seed: int) -> SerialOf:
    """Serials that are the same in every rack of that seed."""
    return lambda index, chip: _from_digest(str(seed), index, chip)


def of_rack(rack_id: str) -> SerialOf:
    """Serials that no other rack has; those of RP2040 tell the rack and the board apart.

    Args:
        rack_id: eight digits of 0-9A-F (:mod:`icebus.rack.identity`).
    """

    def serial(index: int, chip: Chip) -> str:
        if chip is Chip.RP2040:
            return f"{_OWN_PREFIX}{rack_id}{index + 1:04X}"
        # Those chips' ids share no beginning.
        return _from_digest(rack_id, index, chip)

    return serial


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


def layout(
    count: int, chips: ChipChoice, firmware: str, serial_of: SerialOf, emulated: int = 0
) -> RackFile:
    """``count`` boards on the ports of one hub, and then those that are emulated."""
    rack = RackFile()
    for index in range(count):
        rack = add_board(rack, chips.at(index), firmware, serial_of)
    for _ in range(emulated):
        rack = add_board(rack, Chip.RP2040, firmware, serial_of, emulated=True)
    return rack


def add_board(
    rack: RackFile,
    chip: Chip,
    firmware: str,
    serial_of: SerialOf,
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
        serial=serial or serial_of(index, chip),
        chip=chip,
        firmware=firmware,
        emulated=emulated,
    )
    return RackFile(boards=(*rack.boards, board))


def _port(index: int) -> str:
    # A hub has few ports; these ones are as many as a USB bus can address.
    return f"1-{index // 127 + 1}.{index % 127 + 1}"


def _from_digest(seed: str, index: int, chip: Chip) -> str:
    digest = hashlib.sha256(f"{seed}/{index}/{chip.value}".encode()).hexdigest().upper()
    prefix = _RP2040_PREFIX if chip is Chip.RP2040 else ""
    return (prefix + digest)[:_SERIAL_LENGTH]
