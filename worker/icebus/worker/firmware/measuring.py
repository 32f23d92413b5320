"""Drives the pulse-count firmware through one measurement after another, and keeps in step with it.

The firmware takes 104,090 bytes for a transfer whatever they are, so a single stray byte would
shift every later upload and give counts to the wrong circuits. A transfer therefore begins only
when the board is known to wait, and whenever host and board have fallen out of step the line must
be quiet first::

    WAITING --send--> SENDING --Received--> MEASURING --Report--> RETURNING --Waiting--> WAITING
    any --Watchdog, or what can't come now--> ASTRAY --Waiting, then quiet--> WAITING or SENDING

In every phase but WAITING an alarm is set, so that a board that says nothing more is noticed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto

from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.errors import (
    BitstreamUnsupported,
    DecoderUnavailable,
    IcebusError,
    MeasurementFailed,
)
from icebus.worker.firmware.lines import Lines
from icebus.worker.firmware.pulse_count import (
    QUIET,
    Conversation,
    NoReport,
    Received,
    Report,
    Started,
    Waiting,
    Watchdog,
)
from icebus.worker.hardware.port import Port
from icebus.worker.loop import Callback, Timer

UPLOAD_DEADLINE = 10.0
"""Seconds for a transfer. The firmware's own watchdog drops it after 2; a board that does not even
say so is dead."""

REPORT_DEADLINE = 20.0
"""Seconds from the end of a transfer to the report: four times the longest window known."""

RETURN_DEADLINE = 10.0
"""Seconds from a report, or from the end of a transfer that nobody wants, to waiting again: at
once on a board that lives, unless its watchdog has to end the transfer first."""

TAKEN_OVER_DEADLINE = 20.0
"""Seconds for what is left of a transfer that was taken over, in whatever phase; each phase that
begins later has its own."""

ATTEMPTS = 2
"""Transfers of one bitstream that may go astray before its measurement fails."""


@dataclass(frozen=True)
class Measured:
    """A measurement.

    Attributes:
        report: what the board said.
        upload: seconds from the first byte sent to the board having all.
        window: seconds from then to the report.
    """

    report: Report
    upload: float
    window: float


@dataclass
class _Transfer:
    data: bytes
    attempts: int = 0
    begun: float = 0.0
    started: bool = False
    received: float = 0.0


class _Phase(Enum):
    WAITING = auto()
    SENDING = auto()
    MEASURING = auto()
    RETURNING = auto()
    ASTRAY = auto()


class Meter:
    """One board's measuring, a transfer at a time. Its board must wait when this begins.

    Args:
        port: gives the board's port, None while it is away.
        after: runs a callback later.
        on_measuring: called when the board has all of a bitstream and begins to measure.
        on_end: called with how a measurement ended.
        on_idle: called when the next may begin.
        on_silence: called when the board has stopped answering at all.
    """

    def __init__(
        self,
        port: Callable[[], Port | None],
        after: Callable[[float, Callback], Timer],
        on_measuring: Callable[[], None],
        on_end: Callable[[Measured | IcebusError], None],
        on_idle: Callable[[], None],
        on_silence: Callable[[str], None],
    ) -> None:
        self._port = port
        self._after = after
        self._on_measuring = on_measuring
        self._on_end = on_end
        self._on_idle = on_idle
        self._on_silence = on_silence
        self._lines = Lines()
        self._conversation = Conversation()
        self._phase = _Phase.WAITING
        self._transfer: _Transfer | None = None
        self._alarm: Timer | None = None

    @property
    def idle(self) -> bool:
        """Whether the board waits and nothing is under way."""
        return self._phase is _Phase.WAITING

    def measure(self, data: bytes) -> None:
        """Begin with ``data``, which must have the firmware's size; only when idle."""
        if not self.idle or len(data) != text.BITSTREAM_SIZE:
            raise RuntimeError("a transfer of the wrong size, or at the wrong time")
        self._send(_Transfer(data))

    @property
    def in_step(self) -> bool:
        """Whether host and board agree about what is under way."""
        return self._phase is not _Phase.ASTRAY

    def take_over(self, other: Meter) -> None:
        """Go on where ``other`` is, which hears no more; what it has sent is nobody's any more.

        It has to be in step: nothing is sent again.
        """
        self._lines, self._conversation = other._lines, other._conversation
        self._phase = other._phase
        if other._transfer is not None:
            self._transfer = replace(other._transfer, attempts=ATTEMPTS)
        if not self.idle:
            self._expect(TAKEN_OVER_DEADLINE, "did not end what it was sent while idle")

    def abandon(self) -> None:
        """Stop sending and forget the measurement; ``on_end`` is not called."""
        self._transfer = None
        self._clear_alarm()
        port = self._port()
        if port is not None and port.sending:
            port.discard()

    def hear(self, data: bytes) -> None:
        """Take in what the board says."""
        busy = not self.idle
        for line in self._lines.feed(data):
            match self._conversation.hear(line):
                case Waiting():
                    self._on_waiting()
                case Started():
                    self._on_started()
                case Received():
                    self._on_received()
                case Watchdog(received):
                    self._stray(
                        f"the transfer broke off with {received} of {text.BITSTREAM_SIZE} bytes "
                        "received"
                    )
                case Report() as report:
                    self._on_report(report)
                case NoReport(decoder, reason):
                    self._on_report(
                        DecoderUnavailable(reason) if decoder else BitstreamUnsupported(reason)
                    )
                case None:
                    pass
        # Only now: what a board says in one breath after waiting is no answer to what we send.
        if busy and self.idle:
            self._on_idle()

    # --- what the board says ------------------------------------------------------------------

    def _on_waiting(self) -> None:
        match self._phase, self._transfer:
            case _Phase.ASTRAY, _:
                self._set_alarm(QUIET, self._on_quiet)
            case _Phase.SENDING, _Transfer(started=True):
                self._stray("the transfer broke off")
            case _Phase.SENDING, _:
                pass  # said before it had seen our first byte
            case _:
                self._end(MeasurementFailed("the board went back to waiting without a report"))
                self._rest()

    def _on_started(self) -> None:
        if self._phase is _Phase.SENDING and self._transfer and not self._transfer.started:
            self._transfer.started = True
        else:
            self._stray("the board began a transfer that was not sent")

    def _on_received(self) -> None:
        port, transfer = self._port(), self._transfer
        if self._phase is not _Phase.SENDING or port is None or port.sending or transfer is None:
            self._stray("the board took the transfer for complete too soon")
            self._expect(REPORT_DEADLINE, "did not end what it measured unasked")
            return
        self._phase = _Phase.MEASURING
        transfer.received = time.monotonic()
        self._expect(REPORT_DEADLINE, "took the bitstream but gave no report in time")
        self._on_measuring()

    def _on_report(self, report: Report | IcebusError) -> None:
        transfer = self._transfer
        if self._phase is not _Phase.MEASURING or transfer is None:
            return  # of a transfer that is not ours: never anyone's result
        self._phase = _Phase.RETURNING
        self._expect(RETURN_DEADLINE, "did not go back to waiting in time")
        if isinstance(report, IcebusError):
            self._end(report)
            return
        at = time.monotonic()
        self._end(Measured(report, transfer.received - transfer.begun, at - transfer.received))

    # --- what we do -----------------------------------------------------------------------------

    def _send(self, transfer: _Transfer) -> None:
        port = self._port()
        self._phase = _Phase.SENDING
        self._transfer = transfer
        transfer.attempts += 1
        transfer.started = False
        transfer.begun = time.monotonic()
        self._expect(UPLOAD_DEADLINE, "did not take the bitstream in time")
        if port is not None:
            port.send(transfer.data)

    def _stray(self, how: str) -> None:
        """Bytes of ours may have become a transfer of their own, or soon will."""
        within, self._phase = self._phase, _Phase.ASTRAY
        port = self._port()
        if port is not None:
            port.discard()
        self._expect(RETURN_DEADLINE, "did not go back to waiting in time")
        transfer = self._transfer
        if transfer is None or within is _Phase.ASTRAY:
            return
        if within is _Phase.MEASURING or transfer.attempts >= ATTEMPTS:
            self._end(
                MeasurementFailed(
                    f"{how}, at attempt {transfer.attempts} of {ATTEMPTS}; check the board's cable "
                    "and hub"
                )
            )

    def _on_quiet(self) -> None:
        if self._transfer is not None:
            self._send(self._transfer)
        else:
            self._rest()
            self._on_idle()

    def _rest(self) -> None:
        self._phase = _Phase.WAITING
        self._clear_alarm()

    def _end(self, how: Measured | IcebusError) -> None:
        if self._transfer is not None:
            self._transfer = None
            self._on_end(how)

    def _expect(self, seconds: float, otherwise: str) -> None:
        def too_late() -> None:
            self._end(MeasurementFailed(f"the board {otherwise}"))
            self._on_silence(otherwise)

        self._set_alarm(seconds, too_late)

    def _set_alarm(self, seconds: float, callback: Callback) -> None:
        self._clear_alarm()
        self._alarm = self._after(seconds, callback)

    def _clear_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
