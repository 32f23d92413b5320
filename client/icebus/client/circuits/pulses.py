"""Circuits that give pulses at a chosen frequency: a divider of the board's clock. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from icebus.schemas.errors import InvalidRequest

CLOCK: Final = 48_000_000
"""Hertz on pin 35."""

HIGHEST: Final = CLOCK // 2
"""A divider's output changes at most once a cycle."""

LOWEST: Final = Fraction(1, 10)
"""Hertz; a window of a second sees nothing of what is much slower."""

JITTER: Final = 48_000
"""Cycles by which a board's window may be shorter than it is called: its clock ticks in ms."""

CONSTRAINTS: Final = "set_io CLK 35\nset_io ICE_27 27\n"
"""Where the clock comes in and where pulses are counted, as nextpnr takes it (PCF)."""

_FREQUENCY: Final = re.compile(r"(\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})\s*([kKmM]?)(?:[hH][zZ])?")
_FACTORS: Final = {"": 1, "k": 1_000, "m": 1_000_000}

_COUNTER: Final = """\
    localparam HALF = {half};

    reg [$clog2(HALF)-1:0] count = 0;
    reg pulse = 0;

    always @(posedge CLK)
        if (count == HALF - 1) begin
            count <= 0;
            pulse <= ~pulse;
        end else begin
            count <= count + 1;
        end
"""

_TOGGLE: Final = """\
    reg pulse = 0;

    always @(posedge CLK)
        pulse <= ~pulse;
"""

_MODULE: Final = """\
// {rate} pulses a second: the output changes every {cycles} of 48 MHz.
module top (
    input  CLK,
    output ICE_27
);
{body}
    assign ICE_27 = pulse;
endmodule
"""


@dataclass(frozen=True)
class Pulses:
    """A circuit that gives pulses.

    Attributes:
        asked: hertz that were wanted.
        half: cycles of the clock after which the output changes.
    """

    asked: Fraction
    half: int

    @classmethod
    def at(cls, frequency: Fraction) -> Pulses:
        """The circuit whose frequency is nearest to that many hertz.

        Raises:
            InvalidRequest: too high or too low.
        """
        if not LOWEST <= frequency <= HIGHEST:
            raise InvalidRequest(
                f"{show_frequency(frequency)} can't be made from the 48 MHz clock; give "
                f"{show_frequency(LOWEST)} to {show_frequency(Fraction(HIGHEST))}",
                frequency=float(frequency),
            )
        lower = max(1, int(Fraction(CLOCK, 2) / frequency))
        # Nearest in frequency, which is not always nearest in cycles.
        best = min((lower, lower + 1), key=lambda half: abs(Fraction(CLOCK, 2 * half) - frequency))
        return cls(frequency, best)

    @property
    def frequency(self) -> Fraction:
        """Hertz that it truly gives."""
        return Fraction(CLOCK, 2 * self.half)

    @property
    def off(self) -> bool:
        """Whether it is further from what was asked for than a board's window varies by."""
        return abs(self.frequency - self.asked) * CLOCK > self.asked * JITTER

    @property
    def name(self) -> str:
        """The name of its file, without a suffix."""
        return "pulse_" + show_frequency(self.asked).replace(" ", "").lower()

    def expected(self, window: float) -> tuple[int, int]:
        """The fewest and the most pulses that a board counts in a window of so many seconds."""
        cycles = round(Fraction(window) * CLOCK)
        fewest = max(0, cycles - JITTER)
        # The first rise comes after half a period.
        return (fewest + self.half) // (2 * self.half), (cycles + self.half) // (2 * self.half)

    def verilog(self) -> str:
        """Its source."""
        body = _TOGGLE if self.half == 1 else _COUNTER.format(half=self.half)
        rate = f"{float(self.frequency):,.6f}".rstrip("0").rstrip(".")
        cycles = "cycle" if self.half == 1 else f"{self.half} cycles"
        return _MODULE.format(rate=rate, cycles=cycles, body=body)


def parse_frequency(text: str) -> Fraction:
    """Hertz in ``440``, ``2k``, ``2kHz``, ``1.5MHz`` or ``1.5 MHz``.

    Raises:
        InvalidRequest: it is none of these.
    """
    match = _FREQUENCY.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(f"{text!r} is no frequency: write 440, 2k, 2kHz or 1.5MHz")
    number, unit = match.groups()
    return Fraction(Decimal(number)) * _FACTORS[unit.lower()]


def show_frequency(frequency: Fraction) -> str:
    """A frequency for people, in the largest unit that leaves it at least 1."""
    for unit, factor in (("MHz", 1_000_000), ("kHz", 1_000)):
        if frequency >= factor:
            return f"{float(frequency / factor):.10g} {unit}"
    return f"{float(frequency):.10g} Hz"
