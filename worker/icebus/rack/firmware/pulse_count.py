"""The pulse-count firmware with its text protocol (:mod:`icebus.schemas.boards.pulse_count_text`).

Faithful also where it hurts: a byte too many starts the next transfer, a byte too few ends in the
watchdog, a host that closes the port in the middle of a transfer has to send all of it again.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from icebus.rack.firmware.base import ANY_BOARD, NOTHING, Evaluation, Firmware, RunsOn, Step, said
from icebus.rack.firmware.settings import FirmwareSettings
from icebus.rack.verdict import Counted
from icebus.schemas.boards import pulse_count_text as text

if TYPE_CHECKING:
    from random import Random

    from icebus.rack.verdict import Verdict

_MILLISECOND_CYCLES: Final = text.CLOCK_HZ // 1000
"""The window ends on a tick of a millisecond clock, so it is up to one tick short."""


class _State(Enum):
    WAITING = auto()
    RECEIVING = auto()
    MEASURING = auto()


class PulseCount(Firmware):
    """Receives a bitstream, has it evaluated, reports the count, and waits for the next.

    By how much a window is short of a second is drawn at random, once an evaluation.
    """

    def __init__(
        self, settings: FirmwareSettings, random: Random, runs_on: RunsOn = ANY_BOARD
    ) -> None:
        super().__init__(settings, random, runs_on)
        self._state = _State.WAITING
        self._started = 0.0
        self._deadline: float | None = None
        self._received = bytearray()
        self._early = b""
        self._verdict: Verdict | None = None

    @property
    def wants(self) -> int:
        """The first byte at once; then what is missing of the transfer; nothing while measuring."""
        if self._state is _State.MEASURING:
            return 0
        if self._state is _State.WAITING:
            return 1
        return text.BITSTREAM_SIZE - len(self._received)

    @property
    def receiving(self) -> bool:
        """Whether part of a bitstream has come."""
        return self._state is _State.RECEIVING

    def garble(self, output: bytes) -> bytes:
        """Reports are none any more."""
        return said(*map(_garbled, output.decode("ascii").splitlines()))

    @property
    def deadline(self) -> float | None:
        """Of the watchdog while receiving, the end of the window while measuring."""
        return self._deadline

    def start(self, now: float) -> Step:
        """Greet."""
        return Step(said(text.CONNECTED, text.WAITING))

    def receive(self, data: bytes, now: float) -> Step:
        """Take bytes of the bitstream; those after its end are the beginning of the next."""
        if self._state is _State.MEASURING:
            self._early += data
            return NOTHING
        lines: list[str] = []
        if self._state is _State.RECEIVING and self._expired(now):
            lines += self._time_out()
        evaluations: tuple[Evaluation, ...] = ()
        if data and self._state is _State.WAITING:
            self._state = _State.RECEIVING
            self._started = now
            self._deadline = now + self.settings.watchdog
            lines += (text.STARTED, text.RECEIVING)
        received = self._received
        if len(data) <= text.BITSTREAM_SIZE - len(received):
            received += data
        else:
            room = text.BITSTREAM_SIZE - len(received)
            received += data[:room]
            self._early = data[room:]
        if len(received) == text.BITSTREAM_SIZE:
            evaluations = (self._measure(now),)
            lines.append(text.RECEIVED.format(us=round((now - self._started) * 1e6)))
            lines.append(text.FLASHING)
        return Step(said(*lines), evaluations) if lines else NOTHING

    def wake(self, now: float) -> Step:
        """Drop a transfer that takes too long; report at the end of the window."""
        if not self._expired(now):
            return NOTHING
        if self._state is _State.RECEIVING:
            return Step(said(*self._time_out()))
        self._deadline = None
        return self._report(now)

    def measured(self, evaluation: Evaluation, verdict: Verdict, now: float) -> Step:
        """Report at the end of the window; at once if there is no count to wait for."""
        if self._state is not _State.MEASURING:
            return NOTHING
        self._verdict = verdict
        if verdict.counted is not Counted.YES:
            self._deadline = None
        return self._report(now)

    def host_closed(self, now: float) -> Step:
        """Drop an unfinished transfer; a measurement goes on."""
        if self._state is _State.RECEIVING:
            self._wait()
        self._early = b""
        return NOTHING

    def _expired(self, now: float) -> bool:
        return self._deadline is not None and now >= self._deadline

    def _time_out(self) -> list[str]:
        line = text.WATCHDOG.format(received=len(self._received), size=text.BITSTREAM_SIZE)
        self._wait()
        return [line, text.WAITING]

    def _measure(self, now: float) -> Evaluation:
        cycles = round(self.environment.window(self.settings.window) * text.CLOCK_HZ)
        cycles = max(0, cycles - self.random.randrange(_MILLISECOND_CYCLES))
        self._state = _State.MEASURING
        window = cycles / text.CLOCK_HZ / self.settings.speedup
        self._deadline = now + self.settings.load + window
        self._verdict = None
        return Evaluation(bytes(self._received), cycles)

    def _report(self, now: float) -> Step:
        verdict = self._verdict
        if verdict is None or self._deadline is not None:
            return NOTHING
        lines = [_of_virtual_fpga(verdict)]
        report = ""
        if verdict.counted is Counted.YES:
            pulses = self._pulses(verdict, now)
            load = round(self.settings.load * 1e6)
            lines.append(text.FLASH_TIMES.format(init=0, start=0, open=0, write=load, close=0))
            lines.append(text.PULSES.format(pulses=pulses))
            report = f"{pulses} pulses"
        output = said(*lines, text.IDLE, text.CONNECTED, text.WAITING)
        self._wait()
        early, self._early = self._early, b""
        following = self.receive(early, now) if early else NOTHING
        return Step(output + following.output, following.evaluations, report=report)

    def _pulses(self, verdict: Verdict, now: float) -> int:
        if not verdict.cdone:
            return 0
        [pulses] = verdict.pulses
        return round(pulses * self.environment.speed(now)) if verdict.delays else pulses

    def _wait(self) -> None:
        self._state = _State.WAITING
        self._deadline = None
        self._received.clear()


def _of_virtual_fpga(verdict: Verdict) -> str:
    """The line that only a virtual board prints."""
    if verdict.counted is Counted.UNSUPPORTED:
        return text.VIRTUAL_UNSUPPORTED + text.single_line(verdict.note)
    if verdict.counted is Counted.UNAVAILABLE:
        return text.VIRTUAL_UNAVAILABLE + text.single_line(verdict.note)
    if not verdict.cdone:
        return text.VIRTUAL_CDONE_LOW
    if verdict.exact:
        return text.VIRTUAL_EXACT
    return text.VIRTUAL_ESTIMATE + text.single_line(verdict.note)


def _garbled(line: str) -> str:
    if line.startswith(text.PULSES_PREFIX):
        return text.PULSES_PREFIX + "12three"
    return line[:20] if line.startswith(text.FLASH_TIMES_PREFIX) else line
