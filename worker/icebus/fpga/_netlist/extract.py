"""From a configured device to the cone of logic behind a pin.

Walks back from the pad and looks only at what it meets. What the package's other pins read is a
matter of what a lab connects: they are black boxes, unless the design drives them itself, and so is
an output to which nothing leads (:mod:`icebus.fpga._netlist.assumptions` says what is taken for
them). Inputs of cells to which nothing leads are 0, an enable 1. Column buffers and input buffers
are taken as enabled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from icebus.fpga._device import fabric
from icebus.fpga._device.hard_blocks import OSCILLATORS, PLL, hard_block_of_wire
from icebus.fpga._netlist.netlist import (
    CLOCK,
    FIRST,
    ONE,
    ZERO,
    BlackBox,
    Cell,
    Flop,
    Gate,
    Netlist,
)
from icebus.fpga._netlist.truth_tables import AND, IDENTITY, INVERT, MAJORITY, used_inputs
from icebus.schemas.errors import BitstreamUnsupported

if TYPE_CHECKING:
    from icebus.fpga._device.fabric import Pad
    from icebus.fpga._netlist.decode import Design

MOST_CONTENDED = 500
"""Wires with several drivers in a cone, after which it is given up. Mutants have some; noise has
tens of thousands, and a board would be hot before it was configured."""

_LATCH_TILES = ((14, 0), (14, 31))
"""Where ``fabout`` drives the latch signal of the inputs of the bottom and the top edge."""

TRISTATE = "SB_IO with a switched (tristate) output"
INPUT = "SB_IO with an input from outside"
NOTHING = "an output to which nothing leads"

Key = tuple[str, int, int, int]


class Extraction:
    """The walk; :meth:`netlist` is its result.

    Args:
        design: the configured device.
        pad: where to start.
    """

    def __init__(self, design: Design, pad: Pad = fabric.OUTPUT_PAD) -> None:
        self._design = design
        self._pad = pad
        self._chip = design.chip
        self._cells: list[Cell | None] = []
        self._signals: dict[Key, int] = {}
        self._wires: dict[int, int] = {}
        self._pending: list[Key] = []
        self._contention: set[str] = set()
        self._boxes: dict[tuple[str, str], int] = {}

    def netlist(self) -> Netlist | None:
        """The cone behind the pin, as configured; None if the pin is not driven.

        Raises:
            BitstreamUnsupported: too many wires have several drivers.
        """
        x, y, block = self._pad
        if not self._pin_type(x, y, block) >> 4:
            return None
        return self._expanded(self._signal(("pad", x, y, block)))

    def netlist_of(self, x: int, y: int, wire: str, otherwise: int) -> Netlist:
        """The cone behind a wire of a tile; the constant ``otherwise`` if no switch drives it.

        Raises:
            BitstreamUnsupported: too many wires have several drivers.
        """
        return self._expanded(self._named(x, y, wire, otherwise))

    def _expanded(self, output: int) -> Netlist:
        while self._pending:
            key = self._pending.pop()
            self._cells[self._signals[key] - FIRST] = self._expand(key)
        cells = tuple(cell for cell in self._cells if cell is not None)
        return Netlist(cells, output, tuple(sorted(self._contention)))

    # --- signals ------------------------------------------------------------------------------

    def _signal(self, key: Key) -> int:
        """The signal of a cell's output; the cell is expanded later."""
        signal = self._signals.get(key)
        if signal is None:
            signal = self._signals[key] = FIRST + len(self._cells)
            self._cells.append(None)
            self._pending.append(key)
        return signal

    def _add(self, cell: Cell) -> int:
        self._cells.append(cell)
        return FIRST + len(self._cells) - 1

    def _box(self, primitive: str, location: str, place: tuple[int, ...] = ()) -> int:
        """A black box, the same for all that it drives."""
        signal = self._boxes.get((primitive, location))
        if signal is None:
            signal = self._add(BlackBox(primitive, location, place))
            self._boxes[primitive, location] = signal
        return signal

    def _named(self, x: int, y: int, name: str, otherwise: int = ZERO) -> int:
        """The signal of a wire by its name; ``otherwise`` if nothing drives it."""
        wire = self._chip.wire(x, y, name)
        if wire not in self._design.drivers:
            return otherwise
        return self._wire(wire)

    def _wire(self, wire: int) -> int:
        """The signal on a wire: back through the switches to what drives them."""
        drivers, contended = self._design.drivers, self._design.contended
        path = []
        while wire not in self._wires:
            path.append(wire)
            driver = drivers.get(wire)
            if driver is None:
                self._wires[wire] = self._undriven(wire)
            elif wire in contended:
                self._wires[wire] = self._signal(("wire", wire, 0, 0))
            else:
                self._wires[wire] = ZERO  # what a ring of wires that nothing drives keeps
                wire = driver
                continue
            break
        signal = self._wires[wire]
        for passed in path:
            self._wires[passed] = signal
        return signal

    def _contended(self, wire: int) -> Gate:
        """Several switches drive one wire: the AND of them, as the stronger pull-down has it."""
        x, y, name = self._chip.place(wire)
        self._contention.add(f"{name} of tile ({x}, {y})")
        if len(self._contention) > MOST_CONTENDED:
            raise BitstreamUnsupported(
                f"the output depends on more than {MOST_CONTENDED} wires that are driven from "
                "several sides, which is a short circuit rather than a circuit",
                primitive="short circuit",
                location=f"tile ({x}, {y})",
            )
        first, *others = [self._design.drivers[wire], *self._design.contended[wire]]
        signal = self._wire(first)
        for driver in others[:-1]:
            signal = self._add(Gate(AND, (signal, self._wire(driver))))
        return Gate(AND, (signal, self._wire(others[-1])))

    def _undriven(self, wire: int) -> int:
        """The signal of a wire that no switch drives."""
        x, y, name = self._chip.place(wire)
        head, _, pin = name.partition("/")
        if head.startswith("lutff_") and pin in ("out", "lout", "cout"):
            return self._signal((pin, x, y, int(head[6:])))
        if head.startswith("io_") and pin.startswith("D_IN_"):
            return self._signal((pin, x, y, int(head[3:])))
        if head == "carry_in_mux":
            return ONE if self._design.logic_tile(x, y) & 2 else ZERO
        if head.startswith("glb_netwk_"):
            return self._global(int(head[10:]))
        block = hard_block_of_wire(x, y, name)
        if block is not None:
            return self._add(BlackBox(block.primitive, f"tile ({x}, {y})", (block.x, block.y)))
        return ZERO

    def _global(self, network: int) -> int:
        if not self._design.pads_to_globals >> network & 1:
            x, y = fabric.GLOBAL_FABRIC[network]
            return self._named(x, y, "fabout")
        pad = fabric.GLOBAL_PADS[network]
        if pad is None:
            block = OSCILLATORS[network]
            place = block.x, block.y
            return self._box(block.primitive, f"global network {network}", place)
        return self._signal(("D_IN_pad", *pad))

    # --- cells --------------------------------------------------------------------------------

    def _expand(self, key: Key) -> Cell:
        kind, x, y, z = key
        if kind == "out":
            return self._logic_cell(x, y, z)
        if kind == "lout":
            return self._lut(x, y, z)
        if kind == "cout":
            return self._carry(x, y, z)
        if kind == "pad":
            return self._output(x, y, z)
        if kind == "wire":
            return self._contended(x)
        return self._input(kind, x, y, z)

    def _lut(self, x: int, y: int, z: int) -> Gate:
        table = self._design.cell(x, y, z) & 0xFFFF
        used = used_inputs(table)
        return Gate(
            table,
            tuple(
                self._named(x, y, f"lutff_{z}/in_{pin}") if used >> pin & 1 else ZERO
                for pin in range(4)
            ),
        )

    def _logic_cell(self, x: int, y: int, z: int) -> Cell:
        config = self._design.cell(x, y, z)
        if not config & fabric.DFF_ENABLE:
            return Gate(IDENTITY, (self._signal(("lout", x, y, z)),))
        return Flop(
            clock=self._named(x, y, "lutff_global/clk"),
            negative=bool(self._design.logic_tile(x, y) & 1),
            data=self._signal(("lout", x, y, z)),
            enable=self._named(x, y, "lutff_global/cen", ONE),
            reset=self._named(x, y, "lutff_global/s_r"),
            asynchronous=bool(config & fabric.ASYNC_SR),
            value=bool(config & fabric.SET_NO_RESET),
        )

    def _carry(self, x: int, y: int, z: int) -> Gate:
        if not self._design.cell(x, y, z) & fabric.CARRY_ENABLE:
            return Gate(0, ())
        if z:
            carry = self._signal(("cout", x, y, z - 1))
        else:
            carry = self._wire(self._chip.wire(x, y, "carry_in_mux"))
        a, b = (self._named(x, y, f"lutff_{z}/in_{pin}") for pin in (1, 2))
        return Gate(MAJORITY, (a, b, carry))

    # --- pads ---------------------------------------------------------------------------------

    def _pin_type(self, x: int, y: int, block: int) -> int:
        return self._design.io_tile(x, y) >> 6 * block & 0x3F

    def _io_flop(self, x: int, y: int, clock: str, data: int, falling: bool = False) -> int:
        """A flip-flop of an IO block; ``falling`` for the ones on the other edge."""
        negative = bool(self._design.io_tile(x, y) >> 12)
        return self._add(
            Flop(
                clock=self._named(x, y, f"io_global/{clock}"),
                negative=negative != falling,
                data=data,
                enable=self._named(x, y, "io_global/cen", ONE),
            )
        )

    def _output(self, x: int, y: int, block: int) -> Cell:
        """The level that the design drives a pad to (PIN_TYPE of Lattice's SB_IO).

        An inverted register starts at 0 as all do, so its pad starts at 1.
        """
        pin_type = self._pin_type(x, y, block)
        mode, enable = pin_type >> 2 & 3, pin_type >> 4
        where = f"tile ({x}, {y}) block {block}"
        if mode == 0:
            return BlackBox("SB_IO with a double data rate output", where)
        data = self._named(x, y, f"io_{block}/D_OUT_0")
        if data == ZERO:  # constants are made by LUTs
            data = self._box(NOTHING, self._pin_name(x, y, block))
        if mode != 2:
            data = self._io_flop(x, y, "outclk", data)
        if enable != 1:
            wire = self._named(x, y, f"io_{block}/OUT_ENB")
            if wire != ONE:
                black_box = self._box(TRISTATE, where, (x, y, block))
                # 1 lets the data through; anything but a constant 1 depends on the black box
                return Gate(0xCA if mode != 3 else 0x3A, (black_box, data, wire))
        return Gate(INVERT if mode == 3 else IDENTITY, (data,))

    def _input(self, kind: str, x: int, y: int, block: int) -> Cell:
        pad = (x, y, block)
        where = f"tile ({x}, {y}) block {block}"
        if pad in fabric.PLL_PADS and self._design.pll:
            return BlackBox(PLL.primitive, f"tile ({PLL.x}, {PLL.y})", (PLL.x, PLL.y))
        pin_type = self._pin_type(x, y, block)
        is_open = pad != fabric.CLOCK_PAD and not pin_type >> 4
        if pad == fabric.CLOCK_PAD:
            level = CLOCK
        elif pin_type >> 4:
            level = self._signal(("pad", x, y, block))
        else:
            level = self._box(INPUT, self._pin_name(x, y, block), pad)
        if kind == "D_IN_1":
            level = self._io_flop(x, y, "inclk", level, falling=True)
        elif kind == "D_IN_0":
            if pin_type & 2 and self._latched(y) and not is_open:  # an open one never changes
                return BlackBox("SB_IO with a latched input", where)
            if not pin_type & 1:
                level = self._io_flop(x, y, "inclk", level)
        return Gate(IDENTITY, (level,))

    def _pin_name(self, x: int, y: int, block: int) -> str:
        pin = fabric.PIN_OF_PAD.get((x, y, block))
        return f"a pad of tile ({x}, {y})" if pin is None else f"pin {pin}"

    def _latched(self, y: int) -> bool:
        tile = next(tile for tile in _LATCH_TILES if tile[1] == y)
        return self._chip.wire(*tile, "fabout") in self._design.drivers
