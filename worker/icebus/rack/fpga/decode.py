"""From the bits of a bitstream to which wire drives which, and how cells are configured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from icebus.rack.fpga.fabric import HEIGHT, set_bits

if TYPE_CHECKING:
    from icebus.rack.fpga.chip import Chip
    from icebus.schemas.bitstream import BankWrite


@dataclass(frozen=True, slots=True)
class Design:
    """A configured device.

    Attributes:
        drivers: the wire that drives a wire.
        contended: further wires that drive a wire which has a driver already.
        items: values of the cells' configuration items that are not 0, see
            :class:`icebus.rack.fpga.chip.Chip`.
    """

    chip: Chip
    drivers: dict[int, int]
    contended: dict[int, list[int]]
    items: dict[int, int]

    def cell(self, x: int, y: int, z: int) -> int:
        """Configuration of a logic cell: truth table and flags."""
        return self.items.get(self.chip.cells + (x * HEIGHT + y) * 8 + z, 0)

    def logic_tile(self, x: int, y: int) -> int:
        """NegClk (1) and CarryInSet (2) of a logic tile."""
        return self.items.get(self.chip.logic_tiles + x * HEIGHT + y, 0)

    def io_tile(self, x: int, y: int) -> int:
        """PINTYPE of block 0 (6 bits), of block 1 (6 bits), NegClk (2 bits) of an IO tile."""
        return self.items.get(self.chip.io_tiles + x * HEIGHT + y, 0)

    @property
    def pads_to_globals(self) -> int:
        """Bit ``i`` is set where a pad (or an oscillator) drives global network ``i``."""
        return self.items.get(self.chip.globals, 0)

    @property
    def pll(self) -> bool:
        """Whether the PLL is enabled."""
        return self.chip.pll in self.items


def decode(chip: Chip, bitstream: bytes, writes: tuple[BankWrite, ...]) -> Design:
    """Decode a valid bitstream.

    Args:
        chip: the device.
        bitstream: the file.
        writes: its :func:`icebus.schemas.bitstream.bank_writes`.
    """
    bits = set_bits(bitstream, writes)
    item = chip.bit_item[bits]
    known = item >= 0
    item, weight = item[known], chip.bit_weight[bits[known]]
    if not len(item):
        return Design(chip, {}, {}, {})
    order = np.argsort(item, kind="stable")
    item, weight = item[order], weight[order]
    first = np.flatnonzero(np.concatenate(([True], item[1:] != item[:-1])))
    value = np.add.reduceat(weight, first)
    item = item[first]
    split = int(np.searchsorted(item, chip.switches))
    switch = item[:split]
    source = chip.pip_source[chip.pip_base[switch] + value[:split]]
    on = source >= 0
    target = chip.switch_target[switch[on]].tolist()
    sources = source[on].tolist()
    drivers = dict(zip(target, sources, strict=True))
    contended: dict[int, list[int]] = {}
    if len(drivers) != len(target):
        for wire, driver in zip(target, sources, strict=True):
            if drivers[wire] != driver:
                contended.setdefault(wire, []).append(driver)
    items = dict(zip(item[split:].tolist(), value[split:].tolist(), strict=True))
    return Design(chip, drivers, contended, items)
