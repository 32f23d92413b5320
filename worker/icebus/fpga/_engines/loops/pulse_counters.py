"""How a board's microcontroller counts the pulses on a pin."""

from __future__ import annotations

from typing import Final

from icebus.fpga._engines.loops.delays import PIO_CLOCK

COUNTING: Final = 2 * PIO_CLOCK
"""From the sample that finds the pin high to the first that may find it low."""

FASTEST: Final = 3 * PIO_CLOCK
"""Least time from one pulse that is counted to the next: 20 ns, so 50 MHz at most."""


class PioCounter:
    """A loop of three instructions: wait for 0, wait for 1, count.

    Each takes a clock or more and looks at the pin at the clock only, so that short pulses may be
    missed and fast ones are.

    Attributes:
        counted: when each pulse was counted.
    """

    def __init__(self) -> None:
        self.counted: list[int] = []
        self._awaited = 0
        self._next = 0
        self._since = 0

    def hold(self, level: int, until: int) -> None:
        """The pin has kept a level up to but not including ``until``."""
        if level == self._awaited:
            at = -(-max(self._next, self._since) // PIO_CLOCK) * PIO_CLOCK
            if at < until:
                if level:
                    self.counted.append(at)
                self._next = at + (COUNTING if level else PIO_CLOCK)
                self._awaited = 1 - level
        self._since = until

    def state(self) -> tuple[int, int, int]:
        """All that matters to what will be counted, relative to the time of the last hold."""
        now = self._since
        return self._awaited, max(self._next - now, 0), now % PIO_CLOCK


class EdgeCounter:
    """Every rising edge, however short; for what is inside of a circuit.

    Attributes:
        counted: when each was.
    """

    def __init__(self) -> None:
        self.counted: list[int] = []
        self._level = 1
        self._since = 0

    def hold(self, level: int, until: int) -> None:
        """The signal has kept a level up to but not including ``until``."""
        if until > self._since:
            if level > self._level:
                self.counted.append(self._since)
            self._level = level
        self._since = until

    def state(self) -> tuple[int, ...]:
        """All that matters to what will be counted."""
        return (self._level,)
