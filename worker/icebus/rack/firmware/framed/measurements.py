"""Measurements as the firmware makes them, one behind another, from bitstream to result.

While one is measured the next is unpacked; configuring the FPGA lies between two windows. Things
happen when they are due, not when the rack has come to them: a rack that wakes up late catches up.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from icebus.rack.firmware.base import OUTPUT_PIN, Evaluation
from icebus.rack.firmware.framed.limits import BITSTREAM_SIZE
from icebus.rack.firmware.framed.queue import Place, Queue
from icebus.rack.firmware.framed.voltage import sampled
from icebus.rack.verdict import Counted
from icebus.schemas.boards.framed_replies import Outcome, Phase, Result
from icebus.schemas.boards.framed_requests import CountPulses, Encoding, Measure
from icebus.schemas.boards.pulse_count_text import CLOCK_HZ

if TYPE_CHECKING:
    from random import Random

    from icebus.rack.environment import Environment
    from icebus.rack.firmware.settings import FirmwareSettings
    from icebus.rack.verdict import Verdict

SIMULATED_AHEAD: Final = 3
"""Measurements whose circuits are simulated at a time, the present one included: so that windows
follow each other though one simulation takes longer than a window, and no board that has many
queued keeps the others waiting for the simulator."""

SYNTHETIC: Final = "the voltage is synthetic"
"""The note of samples."""

_WITHOUT_COUNT: Final = {
    Counted.UNSUPPORTED: Outcome.UNSUPPORTED,
    Counted.UNAVAILABLE: Outcome.UNAVAILABLE,
}

_MOST: Final = 0xFFFF_FFFF


@dataclass(slots=True, eq=False)
class Measurement:
    """One measurement; what is not yet known of it is 0 or ``None``."""

    sequence: int
    request: Measure
    bitstream: bytes | None = None
    window: float = 0.0
    evaluation: Evaluation | None = None
    verdict: Verdict | None = None
    inflate: float = 0.0
    configure: float = 0.0
    gap: float = 0.0
    started: float = 0.0


@dataclass(frozen=True, slots=True)
class _Measured:
    """What was measured: for how long, and what came out."""

    window: float = 0.0
    pulses: tuple[int, ...] = ()
    samples: tuple[int, ...] = ()
    estimate: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """A measurement with its result."""

    sequence: int
    result: Result
    samples: tuple[int, ...] = ()


@dataclass(slots=True)
class Measurements:
    """The measurements of one board.

    Args:
        settings: times.
        environment: what disturbs measurements.
        random: for what is synthetic.
        adc_pins: the pin that each of the converter's inputs is taken to hang on.
    """

    settings: FirmwareSettings
    environment: Environment
    random: Random
    adc_pins: dict[int, int]
    queue: Queue = field(default_factory=Queue)
    phase: Phase = Phase.IDLE
    cdone: bool = False
    _current: Measurement | None = None
    _ends: float | None = None
    _preparing_since: float | None = None
    _prepared_at: float = 0.0
    _next: Measurement | None = None
    _last_ended: float | None = None
    _ended: list[Ended] = field(default_factory=list)
    _evaluations: list[Evaluation] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        """Measurements accepted that are not yet begun with."""
        return len(self.queue) + (self._next is not None)

    @property
    def owed(self) -> int:
        """Measurements accepted that have no result yet."""
        return self.waiting + (self._current is not None)

    @property
    def sequence(self) -> int:
        """Of the one that is being configured or measured, or 0."""
        return 0 if self._current is None else self._current.sequence

    @property
    def deadline(self) -> float | None:
        """When to call :meth:`advance`."""
        preparing = self._preparing_since is not None
        due = [self._prepared_at] if preparing else []
        if self._ends is not None:
            due.append(self._ends)
        return min(due, default=None)

    def have_sequence(self, sequence: int) -> bool:
        """Whether a measurement of that number is owed its result."""
        return any(each.sequence == sequence for each in self._in_order)

    def take_ended(self) -> list[Ended]:
        """Those that have ended since this was last asked."""
        ended, self._ended = self._ended, []
        return ended

    def take_evaluations(self) -> list[Evaluation]:
        """What is to be simulated and was not yet asked for."""
        evaluations, self._evaluations = self._evaluations, []
        return evaluations

    def add(self, sequence: int, request: Measure, place: Place, now: float) -> None:
        """Accept one more."""
        self.queue.add(Measurement(sequence, request), place)
        self._prepare(now)

    def advance(self, now: float) -> None:
        """Do what has become due."""
        while (due := self.deadline) is not None and due <= now:
            if due == self._ends:
                self._ends = None
                self._phase_ends(due)
            else:
                self._prepared(due)
            self._prepare(due)

    def measured(self, evaluation: Evaluation, verdict: Verdict, now: float) -> None:
        """The FPGA of one of them was simulated; others are long forgotten."""
        of = next((each for each in self._in_order if each.evaluation is evaluation), None)
        if of is None:
            return
        of.verdict = verdict
        if of is self._current and self.phase is Phase.MEASURING:
            if not (verdict.cdone and verdict.counted is Counted.YES):
                self._end_uncounted(verdict, now)  # no window is spent on it
            elif self._ends is None:
                self._end_measured(verdict, now)
            self._prepare(now)

    def abort(self, now: float, *, tell: bool) -> None:
        """End them all; ``tell`` has each give a result."""
        stopped = self._in_order
        if self.phase is Phase.CONFIGURING:
            self.cdone = False
        was_measuring = self.phase is Phase.MEASURING
        self.phase, self._ends, self._current = Phase.IDLE, None, None
        self._next, self._preparing_since = None, None
        self.queue.clear()
        if was_measuring:
            self._last_ended = now
        for each in stopped if tell else ():
            self._tell_aborted(each, now, measuring=was_measuring and each is stopped[0])

    @property
    def _in_order(self) -> list[Measurement]:
        ahead = [each for each in (self._current, self._next) if each is not None]
        return ahead + self.queue.measurements

    def _prepare(self, now: float) -> None:
        """Unpack the first that waits, if there is room for it; have simulated what comes soon."""
        if self._next is None and self._preparing_since is None and len(self.queue):
            self._preparing_since = now
            self._prepared_at = now + self.settings.unpack
            if self.phase is Phase.CONFIGURING and self._ends is not None:
                # It is unpacked to where the one before still has to be sent from.
                self._prepared_at = max(self._prepared_at, self._ends)
        for each in self._in_order[:SIMULATED_AHEAD]:
            if each.evaluation is None and each.bitstream is None:
                self._begin_simulation(each)

    def _begin_simulation(self, of: Measurement) -> None:
        of.bitstream = _unpacked(of.request)
        if of.bitstream is None:
            of.bitstream = b""
            return
        measurement = of.request.measurement
        if isinstance(measurement, CountPulses):
            of.window = self.environment.window(measurement.window_us / 1e6)
            cycles = round(of.window * CLOCK_HZ)
            of.evaluation = Evaluation(of.bitstream, cycles, measurement.pins)
        else:
            of.window = measurement.period * measurement.count
            pin = self.adc_pins.get(measurement.adc_input, OUTPUT_PIN)
            of.evaluation = Evaluation(of.bitstream, CLOCK_HZ, (pin,))
        self._evaluations.append(of.evaluation)

    def _prepared(self, now: float) -> None:
        assert self._preparing_since is not None  # noqa: S101 - for the type checker
        self._next = self.queue.remove_first()
        self._next.inflate = now - self._preparing_since
        self._preparing_since = None
        self._start_next(now)

    def _start_next(self, now: float) -> None:
        while self.phase is Phase.IDLE and self._next is not None:
            self._current, self._next = self._next, None
            if not self._current.bitstream:
                self._end(Outcome.BITSTREAM_DAMAGED, _Measured(), now)
                continue
            self.phase, self.cdone = Phase.CONFIGURING, False
            part = len(self._current.bitstream) / BITSTREAM_SIZE
            self._current.configure = self.settings.load * part
            self._ends = now + self._current.configure

    def _phase_ends(self, now: float) -> None:
        current = self._current
        assert current is not None  # noqa: S101 - for the type checker
        verdict = current.verdict
        if verdict is not None and not (verdict.cdone and verdict.counted is Counted.YES):
            self._end_uncounted(verdict, now)
        elif self.phase is Phase.CONFIGURING:
            self.phase, self.cdone = Phase.MEASURING, True
            current.started = now
            current.gap = 0.0 if self._last_ended is None else now - self._last_ended
            self._ends = now + current.window / self.settings.speedup
        else:
            self._last_ended = now
            if verdict is not None:  # else it ends when that comes
                self._end_measured(verdict, now)

    def _end_uncounted(self, verdict: Verdict, now: float) -> None:
        self.cdone = verdict.cdone
        outcome = Outcome.NOT_CONFIGURED if not verdict.cdone else _WITHOUT_COUNT[verdict.counted]
        self._end(outcome, _Measured(note=verdict.note), now)

    def _end_measured(self, verdict: Verdict, now: float) -> None:
        current = self._current
        assert current is not None  # noqa: S101 - for the type checker
        # Circuits that depend on delays depend on the temperature.
        speed = self.environment.speed(current.started) if verdict.delays else 1.0
        pulses = tuple(round(count * speed) for count in verdict.pulses)
        measured = _Measured(current.window, pulses, (), not verdict.exact, verdict.note)
        measurement = current.request.measurement
        if not isinstance(measurement, CountPulses):
            samples = sampled(pulses[0], measurement.period, measurement.count, self.random)
            note = f"{SYNTHETIC}. {verdict.note}" if verdict.note else SYNTHETIC
            measured = _Measured(current.window, (), samples, estimate=True, note=note)
        self._end(Outcome.MEASURED, measured, now)

    def _end(self, outcome: Outcome, measured: _Measured, now: float) -> None:
        current, self._current = self._current, None
        assert current is not None  # noqa: S101 - for the type checker
        self.phase, self._ends = Phase.IDLE, None
        self._tell(current, outcome, measured, now)
        self._start_next(now)

    def _tell_aborted(self, of: Measurement, now: float, *, measuring: bool) -> None:
        measured = _Measured()
        measurement, verdict = of.request.measurement, of.verdict
        if measuring and of.window:
            elapsed = (now - of.started) * self.settings.speedup
            window = min(elapsed, of.window)
            pulses: tuple[int, ...] = ()
            if isinstance(measurement, CountPulses):
                counted = (0,) * len(measurement.pins) if verdict is None else verdict.pulses
                pulses = tuple(int(count * window / of.window) for count in counted)
            measured = _Measured(window, pulses, estimate=bool(pulses))
        self._tell(of, Outcome.ABORTED, measured, now)

    def _tell(self, of: Measurement, outcome: Outcome, measured: _Measured, now: float) -> None:
        result = Result(
            outcome=outcome,
            cdone=self.cdone,
            pulses=tuple(min(count, _MOST) for count in measured.pulses),
            samples=len(measured.samples),
            window_us=_us(measured.window),
            temperature_mc=sensed_temperature(self.environment.temperature(now)),
            inflate_us=_us(of.inflate),
            configure_us=_us(of.configure),
            gap_us=_us(of.gap),
            estimate=measured.estimate,
            note=measured.note,
        )
        self._ended.append(Ended(of.sequence, result, measured.samples))


def sensed_temperature(celsius: float) -> int:
    """What the chip's sensor says, in thousandths of a degree: its steps are half a degree."""
    step_uv = 3_300_000 / 4096
    steps = round((706_000 - (celsius - 27.0) * 1721) / step_uv)
    return 27_000 - round((steps * step_uv - 706_000) * 1000 / 1721)


def _unpacked(request: Measure) -> bytes | None:
    """The bitstream of a request; ``None`` if it is not what was announced."""
    bitstream = request.encoded
    if request.encoding is Encoding.DEFLATE:
        inflating = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            bitstream = inflating.decompress(request.encoded, request.bitstream_size + 1)
        except zlib.error:
            return None
        if not inflating.eof:
            return None
    if len(bitstream) != request.bitstream_size:
        return None
    return bitstream if zlib.crc32(bitstream) == request.bitstream_crc else None


def _us(seconds: float) -> int:
    return min(round(seconds * 1e6), _MOST)
