"""A fast path from a bitstream to a state machine, for circuits on one edge of one clock.

What :mod:`icebus.fpga._netlist.extract` and :mod:`icebus.fpga._state_machine.from_netlist` do for
any circuit is done here in two parts, for LUTs, carries and flip-flops only. The *routed cone* is
what routing and flags make: which cells the output depends on, and their order. It is kept, as a
search changes truth tables more often than wires. The truth tables are then read from a bitstream
and put in. A cone has all inputs that are routed, whether the truth tables use them or not; those
that they don't use drop out in the state machine.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from icebus.fpga._device import fabric
from icebus.fpga._netlist.net_drivers import (
    CARRY,
    CARRY_SET,
    CELL,
    CLOCK_INPUT,
    GLOBAL,
    KIND,
    LUT,
    OUT,
)
from icebus.fpga._netlist.netlist import ONE, ZERO
from icebus.fpga._netlist.truth_tables import MAJORITY, MUX, used_inputs
from icebus.fpga._state_machine.state_machine import STATE, StateMachineBuilder

if TYPE_CHECKING:
    from icebus.fpga._device.chip import Int32s
    from icebus.fpga._device.fabric import Bytes, Pad
    from icebus.fpga._netlist.decode import Design
    from icebus.fpga._netlist.net_drivers import NetDrivers
    from icebus.fpga._state_machine.state_machine import StateMachine

_CONSTANT: Final = (0x0000, 0xFFFF)
_SIMPLE_OUTPUT: Final = 0b0110
"""PIN_TYPE, above its input bits, of a pad that is always driven, without a register."""
_SIMPLE_INPUT: Final = 0b01
_CLOCK_NETWORK: Final = fabric.GLOBAL_PADS.index(fabric.CLOCK_PAD)
_ENABLE, _RESET, _CARRY_IN = 5, 6, 7


class NotSingleClock(Exception):
    """The circuit has something else than LUTs, carries and flip-flops on one edge of the clock."""


class CombinationalLoop(NotSingleClock):
    """Gates form a loop, at least with these truth tables."""


class RoutedCone:
    """The cone of a pin without its truth tables.

    Raises:
        NotSingleClock: it has other cells, or more clocks.
        CombinationalLoop: it has a loop, at least with these truth tables.
    """

    def __init__(
        self, design: Design, net_drivers: NetDrivers, pad: Pad = fabric.OUTPUT_PAD
    ) -> None:
        try:
            walk = _Walk(design, net_drivers, pad)
        except CombinationalLoop:
            # A cell's carry shares two inputs with its truth table, which may not use them.
            try:
                walk = _Walk(design, net_drivers, pad, ignore_unused=True)
            except NotSingleClock:
                raise CombinationalLoop from None
        self._ignored = walk.ignored
        self._output = walk.output
        self._order = walk.order
        self._flops = walk.flops
        self._byte = net_drivers.table_byte[walk.luts]
        self._shift = net_drivers.table_shift[walk.luts]

    @property
    def size(self) -> int:
        """Bytes it takes, roughly."""
        return 500 * len(self._order) + 300 * len(self._flops)

    def tables(self, cram: Bytes) -> bytes:
        """The truth tables of the cone's cells in the banks of a bitstream, 16 bits each."""
        rows = cram[self._byte] >> self._shift & 1
        return np.packbits(rows.astype(np.uint8), axis=1, bitorder="little").tobytes()

    def fits(self, tables: bytes) -> bool:
        """Whether these truth tables use no input that was left out."""
        table_of = memoryview(tables).cast("H")
        return not any(used_inputs(table_of[slot]) & pins for slot, pins in self._ignored)

    def state_machine(self, tables: bytes) -> StateMachine:
        """The state machine with these truth tables, if they fit."""
        builder = StateMachineBuilder(len(self._flops))
        nodes = builder.nodes
        table_of = memoryview(tables).cast("H")
        for slot, inputs in self._order:
            if slot < 0:
                table = MAJORITY
            elif (table := table_of[slot]) in _CONSTANT:
                nodes.append(table & 1)
                continue
            nodes.append(builder.gate(table, tuple([nodes[i] for i in inputs])))
        following = []
        for i, (data, enable, reset, value) in enumerate(self._flops):
            node = nodes[data]
            if nodes[reset]:
                node = builder.gate(MUX, (node, value, nodes[reset]))
            if nodes[enable] != ONE:
                node = builder.gate(MUX, (STATE + i, node, nodes[enable]))
            following.append(node)
        return builder.state_machine(following, nodes[self._output])


class _Walk:
    """From the pad back, cell by cell.

    Attributes:
        luts: cells whose truth tables are needed.
        order: gates, drivers first: which of ``luts`` (-1 for a carry), and the numbers of the
            inputs. Flip-flops are numbered from ``STATE``, gates after them.
        flops: numbers of data, enable, reset, and the value that this resets to.
        output: the number of what is counted.
        ignored: for which of ``luts`` inputs were left out, as it does not use them.
    """

    def __init__(
        self, design: Design, net_drivers: NetDrivers, pad: Pad, ignore_unused: bool = False
    ) -> None:
        self._design = design
        self._net_drivers = net_drivers
        self._ignore_unused = ignore_unused
        self._ignored_pins: dict[int, int] = {}  # by cell
        self.ignored: list[tuple[int, int]] = []
        self._pins: dict[int, list[int]] = {}
        self._read_cells(design, net_drivers, pad)
        self.luts: list[int] = []
        gates: list[tuple[int, list[int]]] = []
        self._gates = gates
        self._numbers = {ZERO: ZERO, ONE: ONE}
        self._flops: dict[int, int] = {}  # by cell
        output = self._number(self._pad)
        made: list[tuple[int, int, int, int]] = []
        falling = set()
        while len(made) < len(self._flops):
            cell = next(islice(self._flops, len(made), None))
            made.append(self._flop(cell))
            falling.add(design.logic_tile(*divmod(cell >> 3, fabric.HEIGHT)) & 1)
        if len(falling) > 1:
            raise NotSingleClock
        # Gates had negative numbers while nobody knew how many flip-flops there would be.
        first = STATE + len(made)
        self.order = [(slot, [_final(i, first) for i in inputs]) for slot, inputs in gates]
        self.flops = [
            (_final(data, first), _final(enable, first), _final(reset, first), value)
            for data, enable, reset, value in made
        ]
        self.output = _final(output, first)

    def _read_cells(self, design: Design, net_drivers: NetDrivers, pad: Pad) -> None:
        """What drives all pins of all configured cells, and the counted pad."""
        chip = design.chip
        x, y, block = pad
        if design.io_tile(x, y) >> 6 * block + 2 & 0xF != _SIMPLE_OUTPUT:
            raise NotSingleClock
        last = int(np.searchsorted(design.item, chip.logic_tiles))
        cells = design.item[:last] - chip.cells
        wires = np.zeros((2, 8), np.int32)
        wires[0] = net_drivers.networks
        wires[1] = chip.wire(x, y, f"io_{block}/D_OUT_0")
        self._networks, (self._pad, *_) = self._resolved(cells, wires)
        self._flags: dict[int, int] = dict(
            zip(cells.tolist(), design.value[:last].tolist(), strict=True)
        )
        if self._canonical(self._pad) == ZERO:
            raise NotSingleClock  # a pin that follows nothing: constants are made by LUTs

    def _resolved(self, cells: Int32s, others: Int32s) -> list[list[int]]:
        """Note what drives all pins of cells; returns what drives other wires."""
        wires = np.empty((len(cells) + len(others), 8), np.int32)
        undriven = np.zeros_like(wires)
        logic = slice(len(cells))
        wires[logic, :7] = self._net_drivers.pins[cells]
        wires[logic, _CARRY_IN] = self._net_drivers.carry_in[cells >> 3]
        wires[len(cells) :] = others
        undriven[logic, _ENABLE] = ONE
        undriven[logic, _CARRY_IN] = CARRY_SET + (cells & ~7)
        undriven[len(cells) :] = ZERO
        resolved: list[list[int]] = self._net_drivers.resolve(
            self._design, wires, undriven
        ).tolist()
        self._pins.update(zip(cells.tolist(), resolved, strict=False))
        return resolved[len(cells) :]

    def _add_cell(self, cell: int) -> None:
        """A cell that is in the cone with all of its bits 0: with other truth tables it matters."""
        if cell not in self._flags:
            self._flags[cell] = 0
            self._resolved(np.array([cell], np.int32), np.empty((0, 8), np.int32))

    # --- drivers --------------------------------------------------------------------------

    def _canonical(self, driver: int) -> int:
        """The driver itself, where a number stands for a constant or for another driver."""
        while True:
            kind, cell = driver & KIND, driver & CELL
            if kind == OUT:
                if self._flags.get(cell, 0) & fabric.DFF_ENABLE:
                    return driver
                driver = LUT + cell
            elif kind == LUT:
                self._add_cell(cell)
                return driver
            elif kind == CARRY:
                return driver if self._flags.get(cell, 0) & fabric.CARRY_ENABLE else ZERO
            elif kind == CARRY_SET:
                x, y = divmod(cell >> 3, fabric.HEIGHT)
                return ONE if self._design.logic_tile(x, y) & 2 else ZERO
            elif GLOBAL <= driver < GLOBAL + 8 and not self._is_pad(driver - GLOBAL):
                driver = self._networks[driver - GLOBAL]
            else:
                return driver

    def _is_pad(self, network: int) -> bool:
        return bool(self._design.pads_to_globals >> network & 1)

    def _is_clock(self, driver: int) -> bool:
        if self._design.pll:
            return False
        if driver == CLOCK_INPUT:
            x, y, block = fabric.CLOCK_PAD
            return self._design.io_tile(x, y) >> 6 * block & 3 == _SIMPLE_INPUT
        return driver == GLOBAL + _CLOCK_NETWORK

    def _inputs(self, driver: int) -> list[int]:
        """The drivers of a gate's inputs."""
        cell = driver & CELL
        pins = self._pins[cell]
        if driver & KIND == LUT:
            inputs = [self._canonical(pin) for pin in pins[:4]]
            if self._ignore_unused:
                used = used_inputs(self._flags[cell] & 0xFFFF)
                routed = sum(1 << pin for pin, driver in enumerate(inputs) if driver)
                self._ignored_pins[cell] = routed & ~used
                inputs = [driver if used >> pin & 1 else ZERO for pin, driver in enumerate(inputs)]
            return inputs
        carry = CARRY + cell - 1 if cell & 7 else pins[_CARRY_IN]
        return [self._canonical(pins[1]), self._canonical(pins[2]), self._canonical(carry)]

    def _number(self, driver: int) -> int:
        """The number of a driver; its gates, and those that they need, are put in order."""
        numbers, gates = self._numbers, self._gates
        root = self._canonical(driver)
        stack = [root]
        inputs_of: dict[int, list[int]] = {}
        while stack:
            driver = stack[-1]
            if driver in numbers:
                stack.pop()
                continue
            kind = driver & KIND
            if kind == OUT:
                cell = driver & CELL
                numbers[driver] = STATE + self._flops.setdefault(cell, len(self._flops))
                stack.pop()
                continue
            if kind not in (LUT, CARRY):
                raise NotSingleClock
            again = driver in inputs_of
            inputs = inputs_of[driver] if again else self._inputs(driver)
            inputs_of[driver] = inputs
            missing = [other for other in inputs if other not in numbers]
            if missing:
                if again:
                    raise CombinationalLoop
                stack.extend(missing)
                continue
            slot = -1
            if kind == LUT:
                slot = len(self.luts)
                cell = driver & CELL
                self.luts.append(cell)
                if left_out := self._ignored_pins.get(cell, 0):
                    self.ignored.append((slot, left_out))
            gates.append((slot, [numbers[driver] for driver in inputs]))
            numbers[driver] = -len(gates)
            stack.pop()
        return numbers[root]

    def _flop(self, cell: int) -> tuple[int, int, int, int]:
        pins, flags = self._pins[cell], self._flags[cell]
        if not self._is_clock(self._canonical(pins[4])):
            raise NotSingleClock
        data = self._number(LUT + cell)
        enable = self._number(pins[_ENABLE])
        reset = self._number(pins[_RESET])
        if reset and flags & fabric.ASYNC_SR:
            raise NotSingleClock
        return data, enable, reset, int(bool(flags & fabric.SET_NO_RESET))


def _final(number: int, first: int) -> int:
    return number if number >= 0 else first - number - 1
