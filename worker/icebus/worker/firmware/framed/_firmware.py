"""Our own firmware as a worker knows it: asked to forget what it was given, and what it is."""

from __future__ import annotations

import random

from pydantic import ValidationError

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.framed import PROTOCOL_VERSION, Frame, FrameParser, FrameType
from icebus.schemas.boards.framed_replies import Banner
from icebus.schemas.errors import IcebusError
from icebus.worker.firmware._meter import Measured, MeterCallbacks
from icebus.worker.firmware._plug import Firmware, Probe, ProbedBoard
from icebus.worker.firmware.framed._effects import FramedReport
from icebus.worker.firmware.framed._meter import FramedMeter
from icebus.worker.loop import Timer

NAME = "icebus"

ASK_AGAIN = 0.5
"""Seconds until a board is asked again: the rest of a frame that was cut off swallows what follows
it within 0.25 s. A reply itself takes milliseconds."""

ANSWER = 2.0
"""Seconds for a board to be asked several times."""


class FramedFirmware(Firmware):
    """Is silent until it is asked, and answers whatever it is doing."""

    name = NAME
    answers_while_busy = True
    asked_last = True  # the question has a board with text firmware wait for the rest of an upload

    @property
    def answers_within(self) -> float:
        """Long enough to be asked some times."""
        return ANSWER

    def test(self, board: ProbedBoard) -> Probe:
        """Have the board forget its predecessor's measurements and say what it is."""
        return _Test(board)

    def idle_check(self, board: ProbedBoard) -> Probe:
        """Have it say that it is there."""
        return _IdleCheck(board)


class _Test(Probe):
    """Sends ``ABORT`` and ``HELLO``; what comes before ``ABORTED`` is the predecessor's."""

    def __init__(self, board: ProbedBoard) -> None:
        super().__init__(board)
        self._parser = FrameParser()
        self._sequence = random.getrandbits(31) | 1
        self._aborted = False
        self._recognised = False
        self._asked = False
        self._timer: Timer | None = None

    def ask(self) -> None:
        port = self.board.port
        if port is None:
            return
        if port.sending:  # what other firmware was asked
            port.discard()
        self._asked = True
        self._sequence += 2
        port.send(
            Frame(FrameType.ABORT, self._sequence).pack()
            + Frame(FrameType.HELLO, self._sequence + 1).pack()
        )
        if self._recognised:
            self._ask_again_later()

    def receive(self, data: bytes) -> None:
        for frame in self._parser.feed(data):
            if not self._recognised:
                self._recognised = True
                self.board.recognised()
                if self._asked:
                    self._ask_again_later()
                else:
                    self.ask()
            if frame.type == FrameType.ABORTED and frame.sequence == self._sequence:
                self._aborted = True
            elif (
                frame.type == FrameType.BANNER
                and frame.sequence == self._sequence + 1
                and self._aborted
            ):
                self._on_banner(frame.payload)
                return

    def _ask_again_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.board.after(ASK_AGAIN, self.ask)

    def _on_banner(self, payload: bytes) -> None:
        if self._timer is not None:
            self._timer.cancel()
        try:
            banner = Banner.parse(payload)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            self.board.failed(f"its banner can't be understood: {where}: {first['msg']}")
            return
        problem = _problem(banner, self.board.chip)
        if problem:
            self.board.failed(problem)
        else:
            self.board.passed(banner.version)


def _problem(banner: Banner, chip: Chip | None) -> str:
    """Why the board can't be driven; empty when it can."""
    if banner.protocol != PROTOCOL_VERSION:
        return (
            f"firmware {banner.firmware} {banner.version} speaks version {banner.protocol} of the "
            f"protocol, this worker version {PROTOCOL_VERSION}; update the worker, or reflash"
        )
    if banner.firmware != NAME:
        return f"runs firmware {banner.firmware!r}, which is not {NAME!r} though it speaks frames"
    if chip is not None and banner.chip != chip:
        return f"runs firmware for {banner.chip}, but the board's chip is {chip}"
    return ""


class _IdleCheck(Probe):
    def __init__(self, board: ProbedBoard) -> None:
        super().__init__(board)
        self._meter: FramedMeter | None = None

    @property
    def meter(self) -> FramedMeter | None:
        return self._meter

    def ask(self) -> None:
        self._meter = FramedMeter(
            MeterCallbacks(
                port=lambda: self.board.port,
                after=self.board.after,
                on_measuring=lambda _key: None,
                on_end=_no_measurement,
                on_wants_more=lambda: None,
                on_silence=lambda how: self.board.failed(f"the board {how}"),
            )
        )
        self._meter.ask_status()

    def receive(self, data: bytes) -> None:
        meter = self._meter
        if meter is None or meter.idle:
            return
        meter.receive(data)
        if meter.idle:
            self.board.passed()


def _no_measurement(_key: str, _how: Measured[FramedReport] | IcebusError) -> None:
    raise AssertionError("nothing was measured")
