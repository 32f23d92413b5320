"""From a bitstream to the number of pulses a board would report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from icebus.rack.fpga import asynchronous, chipdb
from icebus.rack.fpga.counter import Accumulator, recognise
from icebus.rack.fpga.decode import decode
from icebus.rack.fpga.extract import TRISTATE, Extraction
from icebus.rack.fpga.netlist import FIRST, Foreign, Netlist
from icebus.rack.fpga.simplify import foreign, simplify
from icebus.rack.fpga.steps import Irregular, build
from icebus.rack.fpga.synchronous import Periodic
from icebus.schemas.errors import BitstreamInvalid, BitstreamUnsupported

CONES: Final = 512
"""Analysed circuits kept per process: a population and its parents. A usual one takes 50 kB."""

BITSTREAMS: Final = 512
"""Bitstreams remembered per process, by their bytes' hash and as a reference to their circuit."""


@dataclass(frozen=True, slots=True)
class Count:
    """What the virtual board measured.

    Attributes:
        pulses: rising edges on pin 27 (ICE_27) within the window.
        exact: whether that is what the circuit gives, to the pulse.
        cdone: whether the FPGA took the bitstream; if not, it counts 0.
        note: why it isn't exact; empty when it is.
    """

    pulses: int
    exact: bool
    cdone: bool
    note: str


def count(bitstream: bytes, cycles: int, seed: int) -> Count:
    """Configure a virtual FPGA and count the rising edges on its pin 27.

    Args:
        bitstream: any bytes; what is no valid bitstream counts 0 with ``cdone`` false, as on a
            board.
        cycles: length of the window in cycles of the 48 MHz on pin 35, from configuration.
        seed: stands for one board's individual delays; matters only to circuits whose gates form
            loops.

    Raises:
        BitstreamUnsupported: the counted pin depends on a primitive that is not modelled;
            ``details`` has ``primitive`` and ``location``.
        DecoderUnavailable: there is no chip database; the message says what to install.
    """
    try:
        netlist = _cone(bitstream)
    except BitstreamInvalid:
        return Count(0, exact=True, cdone=False, note="")
    if netlist is None:
        return Count(0, exact=True, cdone=True, note="")
    unsupported = foreign(netlist)
    if unsupported is not None:
        raise BitstreamUnsupported(
            f"the output depends on {unsupported.primitive} at {unsupported.location}, which the "
            "virtual FPGA does not model; use a real board, or a circuit of LUTs and flip-flops",
            primitive=unsupported.primitive,
            location=unsupported.location,
        )
    pulses, exact, note = _pulses(netlist, max(cycles, 0), seed)
    if netlist.contention:
        exact = False
        note = f"{netlist.contention[0]} has several drivers; their AND was taken. {note}".strip()
    return Count(pulses, exact=exact, cdone=True, note=note)


@lru_cache(maxsize=BITSTREAMS)
def _cone(bitstream: bytes) -> Netlist | None:
    """The simplified cone of the counted pin; None if the design does not drive it."""
    netlist = Extraction(decode(chipdb.load(), bitstream)).netlist()
    if netlist is None:
        return None
    netlist = simplify(netlist)
    if netlist.output >= FIRST:
        last = netlist.cells[netlist.output - FIRST]
        if isinstance(last, Foreign) and last.primitive == TRISTATE:
            return None
    return netlist


def _pulses(netlist: Netlist, cycles: int, seed: int) -> tuple[int, bool, str]:
    analysis = _analysis(netlist)
    if isinstance(analysis, Accumulator):
        return analysis.count(cycles), True, ""
    if isinstance(analysis, Periodic):
        pulses, exact = analysis.count(cycles)
        return pulses, exact, "" if exact else "no period within the budget; extrapolated"
    pulses, note = asynchronous.count(netlist, cycles, seed, analysis)
    return pulses, False, note


@lru_cache(maxsize=CONES)
def _analysis(netlist: Netlist) -> Accumulator | Periodic | str:
    """How to count a circuit: its periods, or why it has no fixed order of events."""
    try:
        step = build(netlist)
        return recognise(step) or Periodic(step)
    except Irregular as reason:
        return str(reason)
