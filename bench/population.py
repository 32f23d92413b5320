"""Distinct bitstreams whose counts are known by arithmetic.

``nco.v`` is an oscillator whose frequency stands in lookup tables. Editing those makes circuits
that were placed and routed alike and count differently, as the individuals of an evolutionary
search do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from icebus.schemas.boards.bitstream import with_crc

CLOCK = 48_000_000
"""Hz of the clock that the circuit runs on."""

STEPS = range(1, 1 << 15)
"""What the oscillator can be set to: beyond, every other pulse would go unseen."""

LATE = 48_000
"""Cycles by which a board's window may be short: its clock ticks in milliseconds."""

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Individual:
    """One bitstream.

    Attributes:
        step: what it adds to its phase at every clock, of 65,536.
        data: the file.
    """

    step: int
    data: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """What its results are called."""
        return f"nco_{self.step}.bin"

    def counts(self, window: float) -> range:
        """The pulses that it may give in a window of so many seconds."""
        cycles = round(CLOCK * window)
        least = (cycles - LATE) * self.step // (1 << 16)
        return range(max(0, least - 1), cycles * self.step // (1 << 16) + 2)


def individual(step: int) -> Individual:
    """The oscillator set to ``step``."""
    base, bits = _oscillator()
    data = bytearray(base)
    for number, positions in enumerate(bits):
        if step >> number & 1:
            for position in positions:
                data[position // 8] |= 0x80 >> position % 8
    return Individual(step, with_crc(bytes(data)))


def population(size: int, first: int = 0) -> Iterator[Individual]:
    """So many distinct individuals, never the same for another ``first``, spread over all steps."""
    for number in range(first, first + size):
        # A stride that has no factor in common with their number visits them all.
        yield individual(number * 12_345 % len(STEPS) + 1)


@cache
def _oscillator() -> tuple[bytes, list[list[int]]]:
    bits = json.loads((_HERE / "nco.json").read_text())["step"]
    return (_HERE / "nco.bin").read_bytes(), bits
