"""State machines of single-clock circuits, cached for bitstreams that are alike.

Bitstreams that differ in truth tables only share a routed cone; those that also have the truth
tables of its cells in common share a state machine. The contents of block RAM and what is in the
rest of the device decide neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from icebus.fpga._cache import SizedCache
from icebus.fpga._device import fabric
from icebus.fpga._device.fabric import CRAM_BITS
from icebus.fpga._netlist.decode import decode
from icebus.fpga._netlist.net_drivers import NetDrivers
from icebus.fpga._state_machine.routed_cone import CombinationalLoop, NotSingleClock, RoutedCone

if TYPE_CHECKING:
    import numpy.typing as npt

    from icebus.fpga._device.chip import Chip
    from icebus.fpga._device.fabric import Bytes, Pad
    from icebus.fpga._state_machine.state_machine import StateMachine

CONES_SIZE: Final = 16_000_000
"""Bytes of cones kept for a pin: about 100, with the routing that each belongs to."""

MACHINES_SIZE: Final = 24_000_000
"""Bytes of state machines kept for a pin by the bits that make them, each with its cone: about
1,000."""

_GATE_SIZE: Final = 200
"""Bytes of a gate of a state machine."""

_FACTORS: Final = np.arange(1, CRAM_BITS // 64 + 1, dtype=np.uint64) * np.uint64(
    0x9E37_79B9_7F4A_7C15
)
"""To sum up the routing with: a number to look it up by. It is compared as a whole then."""


class SingleClockCircuits:
    """State machines of one pin from the banks of bitstreams, see :func:`.fabric.cram_of`."""

    def __init__(
        self,
        chip: Chip,
        pad: Pad = fabric.OUTPUT_PAD,
        net_drivers: NetDrivers | None = None,
    ) -> None:
        self._chip = chip
        self._pad = pad
        self._net_drivers = net_drivers or NetDrivers(chip)
        self._cones: SizedCache[int, tuple[npt.NDArray[np.uint64], RoutedCone | None]] = SizedCache(
            CONES_SIZE
        )
        self._machines: SizedCache[tuple[RoutedCone, bytes], StateMachine] = SizedCache(
            MACHINES_SIZE
        )

    def state_machine(self, cram: Bytes) -> StateMachine | None:
        """What drives the pin; None if that is no single-clock circuit."""
        routing = cram.view(np.uint64) & self._chip.routing
        key = int(routing @ _FACTORS)
        found = self._cones.get(key)
        if found is None or not np.array_equal(found[0], routing):
            found = None
        try:
            if found is None:
                cone = RoutedCone(decode(self._chip, cram), self._net_drivers, self._pad)
            elif found[1] is None:
                raise NotSingleClock
            else:
                cone = found[1]
            tables = cone.tables(cram)
            if not cone.fits(tables):
                cone = RoutedCone(decode(self._chip, cram), self._net_drivers, self._pad)
                tables = cone.tables(cram)
        except CombinationalLoop:
            return None  # other truth tables may not have one
        except NotSingleClock:
            self._cones.put(key, (routing, None), routing.nbytes)
            return None
        self._cones.put(key, (routing, cone), routing.nbytes + cone.size)
        machine = self._machines.get((cone, tables)) or cone.state_machine(tables)
        self._machines.put((cone, tables), machine, cone.size + _GATE_SIZE * len(machine.gates))
        return machine
