"""The firmware as virtual boards run it."""

import re
from random import Random

from icebus.rack.firmware import (
    ANY_BOARD,
    NOTHING,
    Evaluation,
    Firmware,
    FirmwareSettings,
    RunsOn,
    Step,
    said,
)
from icebus.rack.verdict import Counted, Verdict
from icebus.schemas.boards.pulse_count_text import CLOCK_HZ

_MEASURE = re.compile(rb"measure (\d+(?:\.\d+)?) (\d+) (\d+)")


class VirtualFrequency(Firmware):
    """Counts for the time it is told, and divides."""

    def __init__(
        self, settings: FirmwareSettings, random: Random, runs_on: RunsOn = ANY_BOARD
    ) -> None:
        super().__init__(settings, random, runs_on)
        self._received = b""
        self._seconds = 0.0
        self._ends: float | None = None
        self._verdict: Verdict | None = None

    @property
    def wants(self) -> int:
        """What comes while it measures waits at the port."""
        return 0 if self._seconds else 65536

    @property
    def deadline(self) -> float | None:
        """The end of the measurement."""
        return self._ends

    def receive(self, data: bytes, now: float) -> Step:
        """Take a line, with the bytes that belong to it."""
        self._received += data
        line, end, rest = self._received.partition(b"\n")
        if not end:
            return NOTHING
        wanted = _MEASURE.fullmatch(line)
        if wanted is not None:
            return self._measure(float(wanted[1]) * int(wanted[2]), rest, int(wanted[3]), now)
        self._received = b""
        following = self.receive(rest, now)
        answer = said("frequency ready") if line == b"?" else b""
        return Step(answer + following.output, following.evaluations)

    def wake(self, now: float) -> Step:
        """Report at the end of the measurement, if the simulation has ended before it."""
        if self._ends is None or now < self._ends:
            return NOTHING
        self._ends = None
        return self._report()

    def measured(self, evaluation: Evaluation, verdict: Verdict, now: float) -> Step:
        """Report, if the measurement has ended before the simulation."""
        self._verdict = verdict
        return self._report()

    def host_closed(self, now: float) -> Step:
        """Forget what is not complete."""
        self._received = b""
        return NOTHING

    def _measure(self, seconds: float, rest: bytes, size: int, now: float) -> Step:
        if len(rest) < size:
            return NOTHING
        self._received = rest[size:]
        self._seconds = seconds
        self._ends = now + seconds
        return Step(evaluations=(Evaluation(rest[:size], round(seconds * CLOCK_HZ)),))

    def _report(self) -> Step:
        verdict, seconds = self._verdict, self._seconds
        if verdict is None or self._ends is not None:
            return NOTHING
        self._verdict, self._seconds = None, 0.0
        if verdict.counted is not Counted.YES:
            return Step(said(f"error {verdict.note}"))
        [pulses] = verdict.pulses if verdict.cdone else (0,)
        return Step(said(f"hertz {pulses / seconds:f} resolution {1 / seconds:f}"))
