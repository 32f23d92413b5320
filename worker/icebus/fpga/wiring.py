"""The short way from a bitstream to a step, for plain circuits: all on one edge of the clock.

What :mod:`icebus.fpga.extract` and :mod:`icebus.fpga.steps` do for any circuit, cell by
cell, is done here in two parts. The *wiring* is what routing and flags make: which cells the output
depends on, and their order. It is kept, as a search changes truth tables more often than wires.
The truth tables are then read from a bitstream and put in. A wiring takes in all inputs that are
routed, whether the truth tables heed them or not; those that they don't heed drop out in the step.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from icebus.fpga import fabric
from icebus.fpga.folding import Folding
from icebus.fpga.netlist import ONE, ZERO
from icebus.fpga.origins import CARRY, CARRY_SET, CELL, CLOCK_INPUT, GLOBAL, KIND, LUT, OUT
from icebus.fpga.steps import STATE

if TYPE_CHECKING:
    from icebus.fpga.chip import Int32s
    from icebus.fpga.decode import Design
    from icebus.fpga.fabric import Bytes
    from icebus.fpga.origins import Origins
    from icebus.fpga.steps import Step

_MAJORITY: Final = 0xE8
_MUX: Final = 0xCA
_CONSTANT: Final = (0x0000, 0xFFFF)
_SIMPLE_OUTPUT: Final = 0b0110
"""PIN_TYPE, above its input bits, of a pad that is always driven, without a register."""
_SIMPLE_INPUT: Final = 0b01
_CLOCK_NETWORK: Final = fabric.GLOBAL_PADS.index(fabric.CLOCK_PAD)
_ENABLE, _RESET, _CARRY_IN = 5, 6, 7


class NotPlain(Exception):
    """The circuit has something that only the long way understands."""


class Loop(NotPlain):
    """Gates form a loop, at least with these truth tables."""


class Wiring:
    """The cone of the counted pin without its truth tables.

    Raises:
        NotPlain: it is not of plain cells only.
        Loop: it is not with these truth tables.
    """

    def __init__(self, design: Design, origins: Origins) -> None:
        try:
            walk = _Walk(design, origins)
        except Loop:
            # A cell's carry shares two inputs with its truth table, which may not heed them.
            try:
                walk = _Walk(design, origins, heeding=True)
            except NotPlain:
                raise Loop from None
        self._unheeded = walk.unheeded
        self._output = walk.output
        self._order = walk.order
        self._registers = walk.registers
        self._byte = origins.table_byte[walk.luts]
        self._shift = origins.table_shift[walk.luts]

    @property
    def size(self) -> int:
        """Bytes it takes, roughly."""
        return 500 * len(self._order) + 300 * len(self._registers)

    def tables(self, cram: Bytes) -> bytes:
        """The truth tables of the cone's cells in the banks of a bitstream, 16 bits each."""
        rows = cram[self._byte] >> self._shift & 1
        return np.packbits(rows.astype(np.uint8), axis=1, bitorder="little").tobytes()

    def fits(self, tables: bytes) -> bool:
        """Whether these truth tables heed no input that was left out."""
        words = memoryview(tables).cast("H")
        return not any(heeded(words[slot]) & pins for slot, pins in self._unheeded)

    def step(self, tables: bytes) -> Step:
        """The step with these truth tables, if they fit."""
        folding = Folding(len(self._registers))
        nodes = folding.nodes
        words = memoryview(tables).cast("H")
        for slot, inputs in self._order:
            if slot < 0:
                table = _MAJORITY
            elif (table := words[slot]) in _CONSTANT:
                nodes.append(table & 1)
                continue
            nodes.append(folding.gate(table, tuple([nodes[i] for i in inputs])))
        following = []
        for i, (data, enable, reset, value) in enumerate(self._registers):
            node = nodes[data]
            if nodes[reset]:
                node = folding.gate(_MUX, (node, value, nodes[reset]))
            if nodes[enable] != ONE:
                node = folding.gate(_MUX, (STATE + i, node, nodes[enable]))
            following.append(node)
        return folding.step(following, nodes[self._output])


@lru_cache(maxsize=1 << 16)
def heeded(table: int) -> int:
    """The inputs (bit by bit) that a truth table of four depends on."""
    return sum(
        1 << pin
        for pin, mask in enumerate((0x5555, 0x3333, 0x0F0F, 0x00FF))
        if (table >> (1 << pin) ^ table) & mask
    )


class _Walk:
    """From the pad back, cell by cell.

    Attributes:
        luts: cells whose truth tables are needed.
        order: gates, drivers first: which of ``luts`` (-1 for a carry), and the numbers of the
            inputs. Registers are numbered from ``STATE``, gates after them.
        registers: numbers of data, enable, reset, and the value that this resets to.
        output: the number of what is counted.
        unheeded: for which of ``luts`` inputs were left out, as it does not heed them.
    """

    def __init__(self, design: Design, origins: Origins, heeding: bool = False) -> None:
        self._design = design
        self._origins = origins
        self._heeding = heeding
        self._left_out: dict[int, int] = {}  # by cell
        self.unheeded: list[tuple[int, int]] = []
        self._pins: dict[int, list[int]] = {}
        self._read_cells(design, origins)
        self.luts: list[int] = []
        gates: list[tuple[int, list[int]]] = []
        self._gates = gates
        self._numbers = {ZERO: ZERO, ONE: ONE}
        self._registers: dict[int, int] = {}  # by cell
        output = self._number(self._pad)
        made: list[tuple[int, int, int, int]] = []
        falling = set()
        while len(made) < len(self._registers):
            cell = next(islice(self._registers, len(made), None))
            made.append(self._register(cell))
            falling.add(design.logic_tile(*divmod(cell >> 3, fabric.HEIGHT)) & 1)
        if len(falling) > 1:
            raise NotPlain
        # Gates had negative numbers while nobody knew how many registers there would be.
        first = STATE + len(made)
        self.order = [(slot, [_final(i, first) for i in inputs]) for slot, inputs in gates]
        self.registers = [
            (_final(data, first), _final(enable, first), _final(reset, first), value)
            for data, enable, reset, value in made
        ]
        self.output = _final(output, first)

    def _read_cells(self, design: Design, origins: Origins) -> None:
        """The origins of all pins of all configured cells, and of the counted pad."""
        chip = design.chip
        x, y, block = fabric.OUTPUT_PAD
        if design.io_tile(x, y) >> 6 * block + 2 & 0xF != _SIMPLE_OUTPUT:
            raise NotPlain
        last = int(np.searchsorted(design.item, chip.logic_tiles))
        cells = design.item[:last] - chip.cells
        wires = np.zeros((2, 8), np.int32)
        wires[0] = origins.networks
        wires[1] = chip.wire(x, y, f"io_{block}/D_OUT_0")
        self._networks, (self._pad, *_) = self._resolved(cells, wires)
        self._flags: dict[int, int] = dict(
            zip(cells.tolist(), design.value[:last].tolist(), strict=True)
        )

    def _resolved(self, cells: Int32s, others: Int32s) -> list[list[int]]:
        """Take in the origins of all pins of cells; returns those of other wires."""
        wires = np.empty((len(cells) + len(others), 8), np.int32)
        undriven = np.zeros_like(wires)
        logic = slice(len(cells))
        wires[logic, :7] = self._origins.pins[cells]
        wires[logic, _CARRY_IN] = self._origins.carry_in[cells >> 3]
        wires[len(cells) :] = others
        undriven[logic, _ENABLE] = ONE
        undriven[logic, _CARRY_IN] = CARRY_SET + (cells & ~7)
        undriven[len(cells) :] = ZERO
        resolved: list[list[int]] = self._origins.resolve(self._design, wires, undriven).tolist()
        self._pins.update(zip(cells.tolist(), resolved, strict=False))
        return resolved[len(cells) :]

    def _meet(self, cell: int) -> None:
        """A cell that is in the cone with all of its bits 0: with other truth tables it matters."""
        if cell not in self._flags:
            self._flags[cell] = 0
            self._resolved(np.array([cell], np.int32), np.empty((0, 8), np.int32))

    # --- origins --------------------------------------------------------------------------

    def _direct(self, origin: int) -> int:
        """An origin that is no constant in disguise, and no other name of something else."""
        while True:
            kind, cell = origin & KIND, origin & CELL
            if kind == OUT:
                if self._flags.get(cell, 0) & fabric.DFF_ENABLE:
                    return origin
                origin = LUT + cell
            elif kind == LUT:
                self._meet(cell)
                return origin
            elif kind == CARRY:
                return origin if self._flags.get(cell, 0) & fabric.CARRY_ENABLE else ZERO
            elif kind == CARRY_SET:
                x, y = divmod(cell >> 3, fabric.HEIGHT)
                return ONE if self._design.logic_tile(x, y) & 2 else ZERO
            elif GLOBAL <= origin < GLOBAL + 8 and not self._is_pad(origin - GLOBAL):
                origin = self._networks[origin - GLOBAL]
            else:
                return origin

    def _is_pad(self, network: int) -> bool:
        return bool(self._design.pads_to_globals >> network & 1)

    def _is_clock(self, origin: int) -> bool:
        if self._design.pll:
            return False
        if origin == CLOCK_INPUT:
            x, y, block = fabric.CLOCK_PAD
            return self._design.io_tile(x, y) >> 6 * block & 3 == _SIMPLE_INPUT
        return origin == GLOBAL + _CLOCK_NETWORK

    def _needs(self, origin: int) -> list[int]:
        """The origins of a gate's inputs."""
        cell = origin & CELL
        pins = self._pins[cell]
        if origin & KIND == LUT:
            needs = [self._direct(pin) for pin in pins[:4]]
            if self._heeding:
                heeds = heeded(self._flags[cell] & 0xFFFF)
                routed = sum(1 << pin for pin, need in enumerate(needs) if need)
                self._left_out[cell] = routed & ~heeds
                needs = [need if heeds >> pin & 1 else ZERO for pin, need in enumerate(needs)]
            return needs
        carry = CARRY + cell - 1 if cell & 7 else pins[_CARRY_IN]
        return [self._direct(pins[1]), self._direct(pins[2]), self._direct(carry)]

    def _number(self, origin: int) -> int:
        """The number of an origin; its gates, and those that they need, are put in order."""
        numbers, gates = self._numbers, self._gates
        root = self._direct(origin)
        stack = [root]
        open_: dict[int, list[int]] = {}
        while stack:
            origin = stack[-1]
            if origin in numbers:
                stack.pop()
                continue
            kind = origin & KIND
            if kind == OUT:
                cell = origin & CELL
                numbers[origin] = STATE + self._registers.setdefault(cell, len(self._registers))
                stack.pop()
                continue
            if kind not in (LUT, CARRY):
                raise NotPlain
            again = origin in open_
            needs = open_[origin] if again else self._needs(origin)
            open_[origin] = needs
            missing = [need for need in needs if need not in numbers]
            if missing:
                if again:
                    raise Loop
                stack.extend(missing)
                continue
            slot = -1
            if kind == LUT:
                slot = len(self.luts)
                cell = origin & CELL
                self.luts.append(cell)
                if left_out := self._left_out.get(cell, 0):
                    self.unheeded.append((slot, left_out))
            gates.append((slot, [numbers[need] for need in needs]))
            numbers[origin] = -len(gates)
            stack.pop()
        return numbers[root]

    def _register(self, cell: int) -> tuple[int, int, int, int]:
        pins, flags = self._pins[cell], self._flags[cell]
        if not self._is_clock(self._direct(pins[4])):
            raise NotPlain
        data = self._number(LUT + cell)
        enable = self._number(pins[_ENABLE])
        reset = self._number(pins[_RESET])
        if reset and flags & fabric.ASYNC_SR:
            raise NotPlain
        return data, enable, reset, int(bool(flags & fabric.SET_NO_RESET))


def _final(number: int, first: int) -> int:
    return number if number >= 0 else first - number - 1
