"""The firmware: requests in, replies out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from icebus.rack.firmware.base import ANY_BOARD, Firmware, Restart, RunsOn, Step
from icebus.rack.firmware.framed import limits
from icebus.rack.firmware.framed.limits import BOARDS, REQUEST_SIZE, BoardLimits
from icebus.rack.firmware.framed.measurements import Measurements, sensed_temperature
from icebus.rack.firmware.framed.receiving import Receiver, Refusal, Request
from icebus.schemas.boards.framed import (
    HEADER_SIZE,
    KEEP_ALIVE_SECONDS,
    PROTOCOL_VERSION,
    Frame,
    FrameParser,
    FrameType,
)
from icebus.schemas.boards.framed_replies import (
    SAMPLES_PER_FRAME,
    Banner,
    BoardStatus,
    Reason,
    Rejected,
    Samples,
)
from icebus.schemas.boards.framed_requests import (
    PINS_AT_ONCE,
    CountPulses,
    Encoding,
    Measure,
    MeasurementKind,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from icebus.rack.firmware.base import Evaluation
    from icebus.rack.firmware.framed.measurements import Ended
    from icebus.rack.firmware.framed.receiving import Received
    from icebus.rack.firmware.settings import FirmwareSettings
    from icebus.rack.verdict import Verdict

NAME: Final = "icebus"

_UNLIMITED: Final = 1 << 30
_NO_OUTCOME: Final = 0xEE


class Framed(Firmware):
    """Takes requests, makes measurements one behind another, and replies."""

    waits_for_host = True
    salvages = True

    def __init__(
        self, settings: FirmwareSettings, random: Random, runs_on: RunsOn = ANY_BOARD
    ) -> None:
        super().__init__(settings, random, runs_on)
        self._board = BOARDS[runs_on.chip]
        adc_pins = dict(zip(self._board.adc_inputs, self._board.pins, strict=False))
        self._measurements = Measurements(settings, self.environment, random, adc_pins)
        self._receiver = Receiver(self._measurements.queue.reserve)
        self._started = 0.0
        self._last_frame = 0.0
        self._restart: tuple[float, Restart] | None = None
        self._replies = bytearray()
        self._reports: list[str] = []

    @property
    def product(self) -> str:
        """Ours, and which board it is."""
        return f"{NAME} {self._board.name}"

    @property
    def wants(self) -> int:
        """The rest of what has begun."""
        return self._receiver.wants

    @property
    def receiving(self) -> bool:
        """Whether a frame has begun."""
        return self._receiver.inside_frame

    @property
    def stalls_at(self) -> int:
        """Half of the payload of a frame that has one."""
        size = self._receiver.payload_size
        return _UNLIMITED if size is None else HEADER_SIZE + size // 2

    def garble(self, output: bytes) -> bytes:
        """Results have an outcome that nobody knows."""
        frames = FrameParser().feed(output)
        return b"".join(_garbled(frame).pack() for frame in frames)

    def salvage(self, unread: bytes) -> bytes:
        """Whole frames; one that was cut off must not swallow those behind it."""
        parser = FrameParser(longest=REQUEST_SIZE + limits.QUEUE_BYTES)
        frames = parser.feed(unread) + parser.drop_begun_frame()
        return b"".join(frame.pack() for frame in frames)

    @property
    def deadline(self) -> float | None:
        """Of a measurement, a frame that was cut off, a host that has fallen silent, a restart."""
        measurements = self._measurements
        due = [measurements.deadline, self._receiver.deadline]
        if measurements.owed:
            due.append(self._last_frame + KEEP_ALIVE_SECONDS)
        if self._restart is not None:
            due.append(self._restart[0])
        return min((each for each in due if each is not None), default=None)

    def start(self, now: float) -> Step:
        """Power comes on; it says nothing until it is asked."""
        self._started = now
        return Step()

    def receive(self, data: bytes, now: float) -> Step:
        """Take bytes of requests."""
        self._measurements.advance(now)
        self._handle(self._receiver.feed(data, now), now)
        return self._step(now)

    def wake(self, now: float) -> Step:
        """Do what is due."""
        measurements = self._measurements
        measurements.advance(now)
        self._handle(self._receiver.give_up_after_silence(now), now)
        if measurements.owed and now >= self._last_frame + KEEP_ALIVE_SECONDS:
            measurements.abort(now, tell=True)
        step, restart = self._step(now), self._restart
        if restart is None or now < restart[0]:
            return step
        self._restart = None
        return replace(step, restart=restart[1])

    def measured(self, evaluation: Evaluation, verdict: Verdict, now: float) -> Step:
        """The FPGA was simulated: a result, if its window has ended before."""
        self._measurements.advance(now)
        self._measurements.measured(evaluation, verdict, now)
        return self._step(now)

    def host_closed(self, now: float) -> Step:
        """Forget all that is owed."""
        self._measurements.abort(now, tell=False)
        self._measurements.take_ended()
        self._receiver.reset()
        return Step()

    def _step(self, now: float) -> Step:
        self._measurements.advance(now)
        self._send_ended()
        replies, reports = bytes(self._replies), ", ".join(self._reports)
        self._replies.clear()
        self._reports.clear()
        return Step(replies, tuple(self._measurements.take_evaluations()), report=reports)

    def _handle(self, received: Iterable[Received], now: float) -> None:
        for each in received:
            if isinstance(each, Refusal):
                self._reply(FrameType.REJECTED, each.sequence, each.rejected.pack())
            else:
                self._last_frame = now
                self._carry_out(each, now)

    def _carry_out(self, request: Request, now: float) -> None:
        if request.type is FrameType.HELLO:
            self._reply(FrameType.BANNER, request.sequence, self._banner().pack())
        elif request.type is FrameType.MEASURE:
            self._accept(request, now)
        elif request.type is FrameType.STATUS:
            self._reply(FrameType.BOARD_STATUS, request.sequence, self._status(now).pack())
        elif request.type is FrameType.ABORT:
            self._measurements.abort(now, tell=True)
            self._send_ended()
            self._reply(FrameType.ABORTED, request.sequence, self._status(now).pack())
        else:
            into = Restart.FIRMWARE if request.type is FrameType.RESTART else Restart.BOOTLOADER
            self._restart = (now + limits.RESTART_SECONDS, into)
            self._reply(FrameType.ACCEPTED, request.sequence, self._status(now).pack())

    def _accept(self, request: Request, now: float) -> None:
        measurements, payload = self._measurements, request.payload
        field = invalid_field(payload, self._board)
        if measurements.have_sequence(request.sequence):
            rejected = Rejected(Reason.SEQUENCE_IN_USE)
        elif field is not None:
            rejected = Rejected(Reason.INVALID_ARGUMENT, field)
        elif request.place is None or measurements.owed >= limits.QUEUE_LENGTH:
            rejected = Rejected(Reason.QUEUE_FULL, measurements.queue.free_bytes)
        else:
            measurements.add(request.sequence, Measure.parse(payload), request.place, now)
            self._reply(FrameType.ACCEPTED, request.sequence, self._status(now).pack())
            return
        self._reply(FrameType.REJECTED, request.sequence, rejected.pack())

    def _banner(self) -> Banner:
        runs_on, board = self.runs_on, self._board
        return Banner(
            protocol=PROTOCOL_VERSION,
            firmware=NAME,
            version=runs_on.version,
            board=board.name,
            chip=runs_on.chip.value,
            id=runs_on.serial,
            reset=runs_on.reset.value,
            bitstream_size=limits.BITSTREAM_SIZE,
            queue_bytes=limits.QUEUE_BYTES,
            queue_length=limits.QUEUE_LENGTH,
            pins=board.pins,
            pins_at_once=PINS_AT_ONCE,
            window_us=limits.WINDOW_US,
            adc_inputs=board.adc_inputs,
            rate_hz=limits.RATE_HZ,
            samples=limits.MOST_SAMPLES,
        )

    def _status(self, now: float) -> BoardStatus:
        measurements = self._measurements
        return BoardStatus(
            free_bytes=measurements.queue.free_bytes,
            waiting=measurements.waiting,
            phase=measurements.phase,
            cdone=measurements.cdone,
            sequence=measurements.sequence,
            skipped_bytes=self._receiver.skipped_bytes & 0xFFFF_FFFF,
            uptime_ms=int((now - self._started) * 1000) & 0xFFFF_FFFF,
            temperature_mc=sensed_temperature(self.environment.temperature(now)),
        )

    def _send_ended(self) -> None:
        for ended in self._measurements.take_ended():
            self._send_samples(ended)
            self._reply(FrameType.RESULT, ended.sequence, ended.result.pack())
            self._reports.append(f"{ended.result.outcome.name} {ended.result.pulses}")

    def _send_samples(self, ended: Ended) -> None:
        for first in range(0, len(ended.samples), SAMPLES_PER_FRAME):
            some = Samples(first, ended.samples[first : first + SAMPLES_PER_FRAME])
            self._reply(FrameType.SAMPLES, ended.sequence, some.pack())

    def _reply(self, kind: FrameType, sequence: int, payload: bytes) -> None:
        self._replies += Frame(kind, sequence, payload).pack()


def invalid_field(payload: bytes, board: BoardLimits) -> int | None:
    """The place of the first field of a MEASURE that asks for what the board can't do."""
    size = int.from_bytes(payload[:4], "little")
    encoding, kind, pin_count = payload[8], payload[9], payload[10]
    counts = kind == MeasurementKind.PULSES
    if not 0 < size <= limits.BITSTREAM_SIZE:
        return 0
    if encoding not in list(Encoding):
        return 8
    if kind not in list(MeasurementKind):
        return 9
    if counts and not 0 < pin_count <= PINS_AT_ONCE:
        return 10
    measurement = Measure.parse(payload[:REQUEST_SIZE]).measurement
    if isinstance(measurement, CountPulses):
        for place, pin in enumerate(measurement.pins):
            if pin not in board.pins:
                return 12 + place
        return None if _within(measurement.window_us, limits.WINDOW_US) else 16
    if measurement.adc_input not in board.adc_inputs:
        return 11
    if not _within(measurement.rate_hz, limits.RATE_HZ):
        return 20
    return None if 0 < measurement.count <= limits.MOST_SAMPLES else 24


def _within(value: int, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= value <= bounds[1]


def _garbled(frame: Frame) -> Frame:
    if frame.type != FrameType.RESULT:
        return frame
    return replace(frame, payload=bytes([_NO_OUTCOME]) + frame.payload[1:])
