"""Firmware that speaks in lines: two simple sorts, for which a package gives only the words."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import ClassVar

from icebus.schemas.errors import IcebusError, MeasurementFailed
from icebus.worker.firmware._lines import Lines
from icebus.worker.firmware._meter import Measured, Meter, MeterCallbacks, R
from icebus.worker.firmware._plug import Firmware, Probe, ProbedBoard
from icebus.worker.loop import Timer


class RepeatingFirmware(Firmware):
    """Says one line again and again, so a board that runs it is only listened to.

    Attributes:
        line: what it says.
    """

    silent = False
    line: ClassVar[str]

    def test(self, board: ProbedBoard) -> Probe:
        """Wait for the line."""
        return _Listening(board, self.line)

    def idle_check(self, board: ProbedBoard) -> Probe:
        """See whether the line has come since the last check."""
        return _ListeningAgain(board, self.line)


class _Listening(Probe):
    def __init__(self, board: ProbedBoard, line: str) -> None:
        super().__init__(board)
        self._line = line
        self._lines = Lines()

    def receive(self, data: bytes) -> None:
        if self._line in self._lines.feed(data):
            self._on_line()

    def ask(self) -> None:
        pass

    def _on_line(self) -> None:
        self.board.passed()


class _ListeningAgain(_Listening):
    def __init__(self, board: ProbedBoard, line: str) -> None:
        super().__init__(board, line)
        self._received = False

    def ask(self) -> None:
        received, self._received = self._received, False
        if received:
            self.board.passed()
        else:
            self.board.failed("the board said nothing")

    def _on_line(self) -> None:
        self._received = True


class AnsweringFirmware(Firmware):
    """Answers a question with a line when it is idle.

    Attributes:
        question: what it is sent; begin it with a line end, as others may have sent half a line.
        answer: the line it then says.
    """

    question: ClassVar[bytes]
    answer: ClassVar[str]

    def test(self, board: ProbedBoard) -> Probe:
        """Ask the question."""
        return _Asking(board, self)

    def idle_check(self, board: ProbedBoard) -> Probe:
        """Ask it, and fail the board if the answer does not come."""
        return _AskingInTime(board, self)


class _Asking(Probe):
    def __init__(self, board: ProbedBoard, firmware: AnsweringFirmware) -> None:
        super().__init__(board)
        self._firmware = firmware
        self._lines = Lines()

    def receive(self, data: bytes) -> None:
        if self._firmware.answer in self._lines.feed(data):
            self._on_answer()

    def ask(self) -> None:
        port = self.board.port
        if port is not None and not port.sending:
            port.send(self._firmware.question)

    def _on_answer(self) -> None:
        self.board.passed()


class _AskingInTime(_Asking):
    _alarm: Timer | None = None

    def ask(self) -> None:
        super().ask()
        self._alarm = self.board.after(self._firmware.answers_within, self._on_silence)

    def _on_answer(self) -> None:
        if self._alarm is not None and self._alarm.pending:
            self._alarm.cancel()
            super()._on_answer()

    def _on_silence(self) -> None:
        self.board.failed("the board did not answer")


class AnsweringMeter(Meter[R]):
    """Sends a measurement, and takes the first line that is an answer for its report.

    Attributes:
        deadline: seconds for a measurement, from its first byte to its report.
    """

    deadline: ClassVar[float] = 20.0

    def __init__(self, callbacks: MeterCallbacks[R]) -> None:
        super().__init__(callbacks)
        self._lines = Lines()
        self._key: str | None = None
        self._begun = 0.0
        self._sent = 0.0
        self._alarm: Timer | None = None

    @abstractmethod
    def read(self, line: str) -> R | IcebusError | None:
        """The report that ``line`` is, the error it tells, or None for a line that is neither."""

    @property
    def wants_more(self) -> bool:
        """One at a time."""
        return self._key is None

    @property
    def idle(self) -> bool:
        """A board that has answered waits."""
        return self._key is None

    def measure(self, key: str, data: bytes) -> None:
        """Send it."""
        if self._key is not None:
            raise RuntimeError("a measurement is under way")
        self._key = key
        self._begun = self._sent = time.monotonic()
        self._alarm = self._callbacks.after(self.deadline, self._on_silence)
        port = self._callbacks.port()
        if port is not None:
            port.send(data, self._on_sent)

    def receive(self, data: bytes) -> None:
        """Look for the answer."""
        busy = self._key is not None
        for line in self._lines.feed(data):
            report = self.read(line)
            if isinstance(report, IcebusError):
                self._end(report)
            elif report is not None:
                self._end(Measured(report, self._sent - self._begun, time.monotonic() - self._sent))
        # Only now: what comes in one piece after an answer is no answer to what follows.
        if busy and self._key is None:
            self._callbacks.on_wants_more()

    def abandon(self) -> None:
        """Forget it."""
        self._key = None
        port = self._callbacks.port()
        if port is not None and port.sending:
            port.discard()

    def _on_sent(self) -> None:
        self._sent = time.monotonic()
        if self._key is not None:
            self._callbacks.on_measuring(self._key)

    def _on_silence(self) -> None:
        how = f"gave no report within {self.deadline:g} s"
        key, self._key = self._key, None
        if key is not None:
            self._callbacks.on_end(key, MeasurementFailed(f"the board {how}"))
            self._callbacks.on_silence(how)

    def _end(self, how: Measured[R] | IcebusError) -> None:
        key, self._key = self._key, None
        if self._alarm is not None:
            self._alarm.cancel()
        if key is not None:
            self._callbacks.on_end(key, how)
