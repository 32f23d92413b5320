"""From the bits of a bitstream to which wire drives which, and how cells are configured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from icebus.fpga._device.fabric import HEIGHT, RAM_POWER_UP, cram_index, set_bits

if TYPE_CHECKING:
    from icebus.fpga._device.chip import Chip
    from icebus.fpga._device.fabric import Bytes


Int32s = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Design:
    """A configured device.

    Attributes:
        targets, sources: wires that are driven, and the wire that each is driven by.
        cram: the banks that it was read from.
        item, value: numbers of the cells' configuration items that are not 0, see
            :class:`icebus.fpga._device.chip.Chip`, and their values.
    """

    chip: Chip
    cram: Bytes
    targets: Int32s
    sources: Int32s
    item: Int32s
    value: Int32s

    @cached_property
    def drivers(self) -> dict[int, int]:
        """The wire that drives a wire."""
        return dict(zip(self.targets.tolist(), self.sources.tolist(), strict=True))

    @cached_property
    def contended(self) -> dict[int, list[int]]:
        """Further wires that drive a wire which has a driver already."""
        drivers = self.drivers
        contended: dict[int, list[int]] = {}
        if len(drivers) != len(self.targets):
            for wire, driver in zip(self.targets.tolist(), self.sources.tolist(), strict=True):
                if drivers[wire] != driver:
                    contended.setdefault(wire, []).append(driver)
        return contended

    @cached_property
    def items(self) -> dict[int, int]:
        """Values of the configuration items that are not 0."""
        return dict(zip(self.item.tolist(), self.value.tolist(), strict=True))

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

    def has_power(self, x: int, y: int) -> bool:
        """Whether the block RAM whose lower tile that is, is powered up."""
        at = int(cram_index(x, y, *RAM_POWER_UP))
        return bool(self.cram[at >> 3] >> (7 - (at & 7)) & 1)

    def feeds(self, x: int, y: int) -> bool:
        """Whether a switch drives an input of what is in a tile of hard blocks."""
        chip, drivers = self.chip, self.drivers
        return any(chip.wire(x, y, name) in drivers for name in chip.input_names)

    @property
    def pll(self) -> bool:
        """Whether the PLL is enabled."""
        return self.chip.pll in self.items


def decode(chip: Chip, cram: Bytes) -> Design:
    """Decode the banks of a bitstream, see :func:`icebus.fpga._device.fabric.cram_of`."""
    rank = chip.bit_rank[set_bits(cram)]
    rank = rank[rank >= 0]
    rank.sort()
    item, weight = chip.rank_item[rank], chip.rank_weight[rank]
    first = np.flatnonzero(np.concatenate((item[:1] >= 0, item[1:] != item[:-1])))
    value = np.add.reduceat(weight, first) if len(first) else weight
    item = item[first]
    split = int(np.searchsorted(item, chip.switches))
    switch = item[:split]
    source = chip.pip_source[chip.pip_base[switch] + value[:split]]
    on = source >= 0
    targets = chip.switch_target[switch[on]]
    return Design(chip, cram, targets, source[on], item[split:], value[split:])
