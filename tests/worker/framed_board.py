"""A board with our own firmware as docs/firmware.md has it, without a clock and without a port."""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass, field

from icebus.schemas.boards import framed
from icebus.schemas.boards.framed import Frame, FrameType
from icebus.schemas.boards.framed_replies import (
    Banner,
    BoardStatus,
    Outcome,
    Phase,
    Reason,
    Rejected,
    Result,
    Samples,
)
from icebus.schemas.boards.framed_requests import CountPulses, Measure, TakeSamples

CONFIGURING = 0.036
HEADER = framed.HEADER_SIZE
LONGEST = 28 + (120 << 10)

BANNER = Banner(
    protocol=1,
    firmware="icebus",
    version="0.1.0",
    board="pico-ice",
    chip="rp2040",
    id="E6616407E308B9E2",
    reset="power",
    bitstream_size=104_096,
    queue_bytes=120 << 10,
    queue_length=64,
    pins=(27, 25, 21, 19),
    pins_at_once=4,
    window_us=(1000, 60_000_000),
    adc_inputs=(2, 3),
    rate_hz=(1000, 500_000),
    samples=2048,
)


def pulses_of(encoded: bytes) -> int:
    """What the board counts: another number for each bitstream."""
    return zlib.crc32(encoded)


@dataclass
class _Measuring:
    sequence: int
    request: Measure

    @property
    def seconds(self) -> float:
        asked = self.request.measurement
        if isinstance(asked, CountPulses):
            return asked.window_us / 1e6
        return asked.count / asked.rate_hz


@dataclass
class FramedBoard:
    """The board. Give it bytes and time; it leaves its replies in ``said``.

    Attributes:
        outcomes: what the next measurements come to, instead of ``MEASURED``.
        measured: the sequences of those that were measured.
    """

    queue_bytes: int = 120 << 10
    banner: Banner = BANNER
    said: bytearray = field(default_factory=bytearray)
    outcomes: deque[tuple[Outcome, str]] = field(default_factory=deque)
    measured: list[int] = field(default_factory=list)
    requests: list[Frame] = field(default_factory=list)
    current: _Measuring | None = None
    queue: deque[_Measuring] = field(default_factory=deque)
    hung: bool = False
    _due: float | None = None
    _started: float = 0.0
    _heard: float = 0.0
    _received: bytearray = field(default_factory=bytearray)
    _told: bool = False

    @property
    def due(self) -> float | None:
        """When it does something by itself."""
        dues = [self._due] if self._due is not None else []
        if self._received:
            dues.append(self._heard + framed.SILENCE_SECONDS)
        if self.owed:
            dues.append(self._heard + framed.KEEP_ALIVE_SECONDS)
        return None if self.hung else min(dues, default=None)

    @property
    def owed(self) -> list[_Measuring]:
        """What has no result yet."""
        return [*([self.current] if self.current else []), *self.queue]

    def restart(self, now: float) -> None:
        """Lose everything, as by its watchdog."""
        self.current, self._due, self._started = None, None, now
        self.queue.clear()
        self._received.clear()
        self.hung = False

    def forget(self) -> None:
        """The host has closed the port."""
        self.current, self._due = None, None
        self.queue.clear()
        self._received.clear()

    def advance(self, now: float) -> None:
        """Do what is due."""
        if self.hung:
            return
        while self._due is not None and self._due <= now:
            self._finish(self._due)
        if self._received and now >= self._heard + framed.SILENCE_SECONDS:
            if len(self._received) < HEADER:
                self._tell_damage()
            else:
                sequence = int.from_bytes(self._received[4:8], "little")
                self._reject(sequence, Reason.CUT_OFF, len(self._received) - HEADER)
            self._received.clear()
        if self.owed and now >= self._heard + framed.KEEP_ALIVE_SECONDS:
            self._abort()

    def receive(self, now: float, data: bytes) -> None:
        """Take what the host has sent."""
        if self.hung:
            return
        self.advance(now)
        self._heard = now
        self._received += data
        while len(self._received) >= HEADER:
            header = bytes(self._received[:HEADER])
            checksum = int.from_bytes(header[12:], "little")
            if header[:2] != framed.MAGIC or zlib.crc32(header[:12]) != checksum:
                self._tell_damage()
                del self._received[0]
                continue
            self._told = False
            kind, sequence = header[2], int.from_bytes(header[4:8], "little")
            length = int.from_bytes(header[8:12], "little")
            end = HEADER + length + (4 if length else 0)
            if len(self._received) < end:
                return
            payload = bytes(self._received[HEADER : HEADER + length])
            trailer = int.from_bytes(self._received[HEADER + length : end], "little")
            del self._received[:end]
            if length > LONGEST:
                self._reject(sequence, Reason.TOO_LONG, LONGEST)
            elif length and zlib.crc32(payload, checksum) != trailer:
                self._reject(sequence, Reason.PAYLOAD_DAMAGED)
            else:
                self._carry_out(now, Frame(kind, sequence, payload))

    def _carry_out(self, now: float, frame: Frame) -> None:
        self.requests.append(frame)
        match frame.type:
            case FrameType.HELLO:
                self._say(FrameType.BANNER, frame.sequence, self.banner.pack())
            case FrameType.STATUS:
                self._say(FrameType.BOARD_STATUS, frame.sequence, self._status(now))
            case FrameType.ABORT:
                self._abort()
                self._say(FrameType.ABORTED, frame.sequence, self._status(now))
            case FrameType.MEASURE:
                self._accept(now, frame)
            case _:
                self._reject(frame.sequence, Reason.UNKNOWN_TYPE, frame.type)

    def _accept(self, now: float, frame: Frame) -> None:
        request = Measure.parse(frame.payload)
        asked = request.measurement
        pins = asked.pins if isinstance(asked, CountPulses) else ()
        if any(each.sequence == frame.sequence for each in self.owed):
            self._reject(frame.sequence, Reason.SEQUENCE_IN_USE)
        elif not set(pins) <= set(self.banner.pins):
            self._reject(frame.sequence, Reason.INVALID_ARGUMENT, 12)
        elif len(request.encoded) > self._free:
            self._reject(frame.sequence, Reason.QUEUE_FULL, self._free)
        else:
            self.queue.append(_Measuring(frame.sequence, request))
            self._start(now)
            self._say(FrameType.ACCEPTED, frame.sequence, self._status(now))

    def _start(self, now: float) -> None:
        if self.current is None and self.queue:
            self.current = self.queue.popleft()
            self._due = now + CONFIGURING + self.current.seconds

    def _finish(self, now: float) -> None:
        current, self.current, self._due = self.current, None, None
        assert current is not None
        outcome, note = self.outcomes.popleft() if self.outcomes else (Outcome.MEASURED, "")
        self.measured.append(current.sequence)
        self._say_result(current, outcome, note)
        self._start(now)

    def _abort(self) -> None:
        owed, self.current, self._due = self.owed, None, None
        self.queue.clear()
        for each in owed:
            self._say_result(each, Outcome.ABORTED)

    def _say_result(self, of: _Measuring, outcome: Outcome, note: str = "") -> None:
        asked = of.request.measurement
        count = asked.count if isinstance(asked, TakeSamples) else 0
        count = count if outcome is Outcome.MEASURED else 0
        values = samples_of(of.request.encoded, count)
        for first in range(0, count, 256):
            some = Samples(first, values[first : first + 256])
            self._say(FrameType.SAMPLES, of.sequence, some.pack())
        pins = asked.pins if isinstance(asked, CountPulses) else ()
        pulses = tuple(pulses_of(of.request.encoded) for _ in pins)
        cdone = outcome is Outcome.MEASURED
        window = round(of.seconds * 1e6)
        result = Result(outcome, cdone, pulses, count, window, 30_000, 1, 36_000, 36_006, note=note)
        self._say(FrameType.RESULT, of.sequence, result.pack())

    @property
    def _free(self) -> int:
        return self.queue_bytes - sum(len(each.request.encoded) for each in self.queue)

    def _status(self, now: float) -> bytes:
        phase = Phase.MEASURING if self.current else Phase.IDLE
        sequence = self.current.sequence if self.current else 0
        uptime = round((now - self._started) * 1000)
        return BoardStatus(
            self._free, len(self.queue), phase, False, sequence, 0, uptime, 30_000
        ).pack()

    def _tell_damage(self) -> None:
        if not self._told:
            self._told = True
            self._reject(framed.NO_SEQUENCE, Reason.HEADER_DAMAGED)

    def _reject(self, sequence: int, reason: Reason, detail: int = 0) -> None:
        self._say(FrameType.REJECTED, sequence, Rejected(reason, detail).pack())

    def _say(self, kind: FrameType, sequence: int, payload: bytes) -> None:
        self.said += Frame(kind, sequence, payload).pack()


def samples_of(encoded: bytes, count: int) -> tuple[int, ...]:
    """What the board samples."""
    return tuple((pulses_of(encoded) + place) % 4096 for place in range(count))
