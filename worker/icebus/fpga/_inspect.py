"""What a bitstream uses of the FPGA, and what drives a pin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from icebus.fpga._device import chipdb, fabric
from icebus.fpga._device.fabric import CLOCK_PIN, OUTPUT_PIN, PADS, cram_of
from icebus.fpga._device.hard_blocks import OSCILLATORS, HardBlock, hard_block_of_wire
from icebus.fpga._netlist.decode import decode
from icebus.fpga._netlist.extract import INPUT, NOTHING, TRISTATE, Extraction
from icebus.fpga._netlist.netlist import CLOCK, FIRST, ONE, ZERO, BlackBox, Cell, Gate, Netlist
from icebus.fpga._netlist.simplify import simplify
from icebus.fpga._simulate import pad_of
from icebus.schemas.boards.bitstream import bank_writes
from icebus.schemas.errors import BitstreamUnsupported

if TYPE_CHECKING:
    from icebus.fpga._device.fabric import Pad
    from icebus.fpga._netlist.decode import Design

_COUNTED: Final = ("SB_RAM40_4K", "SB_SPRAM256KA", "SB_MAC16", "SB_HFOSC", "SB_LFOSC")
_UNDRIVEN: Final = "nothing"


@dataclass(frozen=True, slots=True)
class BlockUse:
    """How many blocks of the FPGA a bitstream configures.

    A hard block counts if one of its outputs is routed somewhere.

    Attributes:
        luts: logic cells with a truth table that isn't 0.
        carries: logic cells with a carry.
        flip_flops: logic cells with a flip-flop.
        block_rams: SB_RAM40_4K.
        sprams: SB_SPRAM256KA.
        dsps: SB_MAC16.
        plls: SB_PLL40.
        oscillators: SB_HFOSC and SB_LFOSC.
        ios: pins that are inputs or outputs.
        others: such as SB_SPI and SB_I2C.
    """

    luts: int
    carries: int
    flip_flops: int
    block_rams: int
    sprams: int
    dsps: int
    plls: int
    oscillators: int
    ios: int
    others: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a bitstream is.

    Attributes:
        driver: what drives the pin once constants and what is ignored are left out: ``nothing``,
            ``constant 0``, ``constant 1``, ``LUT``, ``flip-flop``, a pin such as ``pin 35 (clock)``
            or ``pin 23``, or the name of a primitive.
        blocks: what it uses of the FPGA.
    """

    driver: str
    blocks: BlockUse


def inspect(bitstream: bytes, *, pin: int = OUTPUT_PIN) -> Inspection:
    """Look at a bitstream without simulating it.

    Args:
        bitstream: a valid one.
        pin: of the SG48 package; the boards count on pin 27 (ICE_27).

    Raises:
        BitstreamInvalid: it is none; the message says why.
        DecoderUnavailable: there is no chip database; the message says what to install.
        InvalidRequest: the package has no such pin.
    """
    pad = pad_of(pin)
    writes = bank_writes(bitstream)
    design = decode(chipdb.load(), cram_of(bitstream, writes))
    return Inspection(_driver(design, pad), _blocks(design))


def _driver(design: Design, pad: Pad) -> str:
    try:
        netlist = Extraction(design, pad).netlist()
    except BitstreamUnsupported as problem:
        return str(problem.details["primitive"])
    if netlist is None:
        return _UNDRIVEN
    netlist = simplify(netlist)
    if netlist.output in (ZERO, ONE):
        return f"constant {netlist.output}"
    if netlist.output == CLOCK:
        return f"pin {CLOCK_PIN} (clock)"
    cell = netlist.cells[netlist.output - FIRST]
    if _is_tristate(netlist, cell):
        return TRISTATE
    if not isinstance(cell, BlackBox):
        return "LUT" if isinstance(cell, Gate) else "flip-flop"
    if cell.primitive == INPUT:
        return cell.location
    return _UNDRIVEN if cell.primitive in (TRISTATE, NOTHING) else cell.primitive


def _is_tristate(netlist: Netlist, cell: Cell) -> bool:
    """Whether a cell is the switch of a tristate output."""
    return any(
        isinstance(driver, BlackBox) and driver.primitive == TRISTATE
        for driver in (netlist.cells[i - FIRST] for i in cell.inputs if i >= FIRST)
    )


def _blocks(design: Design) -> BlockUse:
    last = int(np.searchsorted(design.item, design.chip.logic_tiles))
    cells = design.value[:last]
    sources = set(design.sources.tolist())
    primitives = [block.primitive for block in _hard_blocks(design, sources)]
    rams, sprams, dsps, *oscillators = (primitives.count(name) for name in _COUNTED)
    return BlockUse(
        luts=int(np.count_nonzero(cells & 0xFFFF)),
        carries=int(np.count_nonzero(cells & fabric.CARRY_ENABLE)),
        flip_flops=int(np.count_nonzero(cells & fabric.DFF_ENABLE)),
        block_rams=rams,
        sprams=sprams,
        dsps=dsps,
        plls=int(design.pll),
        oscillators=sum(oscillators),
        ios=sum(_is_used(design, pad, sources) for pad in PADS.values()),
        others=sum(name not in _COUNTED for name in primitives),
    )


def _hard_blocks(design: Design, sources: set[int]) -> set[HardBlock]:
    """Those with an output that is routed somewhere, or that drive a global network."""
    routed = (hard_block_of_wire(*design.chip.place(wire)) for wire in sources)
    blocks = {block for block in routed if block is not None}
    return blocks | {
        block for network, block in OSCILLATORS.items() if design.pads_to_globals >> network & 1
    }


def _is_used(design: Design, pad: Pad, sources: set[int]) -> bool:
    """Whether a pad is an output, or an input that is routed somewhere."""
    x, y, block = pad
    if design.io_tile(x, y) >> 6 * block + 4 & 3:
        return True
    if pad in fabric.GLOBAL_PADS:
        network = fabric.GLOBAL_PADS.index(pad)
        if design.pads_to_globals >> network & 1:
            return True
    return any(design.chip.wire(x, y, f"io_{block}/D_IN_{number}") in sources for number in (0, 1))
