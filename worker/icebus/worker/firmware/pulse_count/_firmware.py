"""The pulse-count firmware as a worker knows it: asked by having it measure a blank bitstream."""

from __future__ import annotations

from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.errors import IcebusError, MeasurementFailed
from icebus.worker.firmware import Firmware, Lines, Measured, MeterCallbacks, Probe, ProbedBoard
from icebus.worker.firmware.pulse_count._conversation import (
    QUIET,
    Conversation,
    NoReport,
    Received,
    Report,
    Started,
    Waiting,
    Watchdog,
    recognises,
)
from icebus.worker.firmware.pulse_count._meter import PulseCountMeter
from icebus.worker.loop import Timer

ANSWER = 12.0
"""Seconds a board may take to be idle once it has said something: an upload of somebody who died
is dropped after 2 s, the longest measuring window known is 5 s, loading takes tens of ms."""

BLANK = b"\xff" * text.BITSTREAM_SIZE
"""A transfer that configures nothing: it has no preamble, so the FPGA stays unconfigured and the
count is 0. It takes the firmware through its whole conversation."""


class PulseCountFirmware(Firmware):
    """Is silent when its port is opened: a board opened anew never shows its greeting."""

    name = "pulse_count"

    @property
    def answers_within(self) -> float:
        """The time of a measurement that somebody else began."""
        return ANSWER

    def test(self, board: ProbedBoard) -> Probe:
        """Follow what the board says, and have it measure a blank bitstream if that is nothing."""
        return _Test(board)

    def idle_check(self, board: ProbedBoard) -> Probe:
        """Have it measure a blank bitstream."""
        return _IdleCheck(board)


class _Test(Probe):
    def __init__(self, board: ProbedBoard) -> None:
        super().__init__(board)
        self._lines = Lines()
        self._conversation = Conversation()
        self._recognised = False
        self._asked = False
        self._received = False
        self._reported = False
        self._out_of_step = False
        self._quiet: Timer | None = None

    def ask(self) -> None:
        port = self.board.port
        if port is not None and not port.sending:
            self._asked = True
            port.send(BLANK)

    def receive(self, data: bytes) -> None:
        port = self.board.port
        for line in self._lines.feed(data):
            if not self._recognised:
                if not recognises(line):
                    continue
                self._recognised = True
                self.board.recognised()
            match self._conversation.read(line):
                case Received():
                    self._received = self._asked
                case Report() | NoReport():
                    self._reported = self._received
                case Watchdog():
                    self._out_of_step = True
                    if port is not None:
                        port.discard()
                case Started() if self._quiet is not None:
                    self._quiet.cancel()
                case Waiting() if self._out_of_step:
                    # What is left of a transfer that broke off would start another.
                    self._quiet = self.board.after(QUIET, self._on_quiet)
                case Waiting() if self._received is self._asked:
                    self._on_idle()
                    return
                case _:
                    pass

    def _on_quiet(self) -> None:
        if self._received is self._asked:
            self._on_idle()
        else:
            self.ask()

    def _on_idle(self) -> None:
        """It waits for the next transfer: as it should, if it gave a report of ours."""
        if self._asked and not self._reported:
            self.board.failed("took a blank bitstream but gave no report that can be understood")
        else:
            self.board.passed()


class _IdleCheck(Probe):
    def __init__(self, board: ProbedBoard) -> None:
        super().__init__(board)
        self._meter: PulseCountMeter | None = None

    @property
    def meter(self) -> PulseCountMeter | None:
        return self._meter

    def ask(self) -> None:
        self._meter = PulseCountMeter(
            MeterCallbacks(
                port=lambda: self.board.port,
                after=self.board.after,
                on_measuring=lambda _key: None,
                on_end=self._on_end,
                on_wants_more=self.board.passed,
                on_silence=lambda how: self.board.failed(f"the board {how}"),
            )
        )
        self._meter.measure("", BLANK)

    def receive(self, data: bytes) -> None:
        if self._meter is not None:
            self._meter.receive(data)

    def _on_end(self, _key: str, how: Measured[Report] | IcebusError) -> None:
        if isinstance(how, MeasurementFailed):  # a board that can't know the count answers, too
            self.board.failed(how.message)
