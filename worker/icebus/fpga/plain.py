"""Steps of plain circuits, by bitstream: what was worked out for one serves those like it.

Bitstreams that differ in truth tables only have one wiring; those that also have the truth tables
of the wiring's cells in common have one step. The contents of block RAM and what is in the rest of
the device decide neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from icebus.fpga.decode import decode
from icebus.fpga.fabric import CRAM_BITS
from icebus.fpga.origins import Origins
from icebus.fpga.shelf import Shelf
from icebus.fpga.wiring import Loop, NotPlain, Wiring

if TYPE_CHECKING:
    import numpy.typing as npt

    from icebus.fpga.chip import Chip
    from icebus.fpga.fabric import Bytes
    from icebus.fpga.steps import Step

WIRINGS_SIZE: Final = 16_000_000
"""Bytes of wirings kept: about 100, with the routing that each belongs to."""

STEPS_SIZE: Final = 24_000_000
"""Bytes of steps kept by the bits that make them, each with its wiring: about 1,000."""

_GATE_SIZE: Final = 200
"""Bytes of a gate of a step."""

_FACTORS: Final = np.arange(1, CRAM_BITS // 64 + 1, dtype=np.uint64) * np.uint64(
    0x9E37_79B9_7F4A_7C15
)
"""To sum up the routing with: a number to look it up by. It is compared as a whole then."""


class PlainCircuits:
    """Gives steps for the banks of bitstreams, see :func:`icebus.fpga.fabric.cram_of`."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._origins = Origins(chip)
        self._wirings: Shelf[int, tuple[npt.NDArray[np.uint64], Wiring | None]] = Shelf(
            WIRINGS_SIZE
        )
        self._steps: Shelf[tuple[Wiring, bytes], Step] = Shelf(STEPS_SIZE)

    def step(self, cram: Bytes) -> Step | None:
        """The step of the counted pin's cone; none if that is no plain circuit."""
        routing = cram.view(np.uint64) & self._chip.routing
        key = int(routing @ _FACTORS)
        found = self._wirings.get(key)
        if found is None or not np.array_equal(found[0], routing):
            found = None
        try:
            if found is None:
                wiring = Wiring(decode(self._chip, cram), self._origins)
            elif found[1] is None:
                raise NotPlain
            else:
                wiring = found[1]
            tables = wiring.tables(cram)
            if not wiring.fits(tables):
                wiring = Wiring(decode(self._chip, cram), self._origins)
                tables = wiring.tables(cram)
        except Loop:
            return None  # other truth tables may not have one
        except NotPlain:
            self._wirings.put(key, (routing, None), routing.nbytes)
            return None
        self._wirings.put(key, (routing, wiring), routing.nbytes + wiring.size)
        step = self._steps.get((wiring, tables)) or wiring.step(tables)
        self._steps.put((wiring, tables), step, wiring.size + _GATE_SIZE * len(step.gates))
        return step
