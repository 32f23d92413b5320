"""Drives the pulse-count firmware through one measurement after another, and keeps in step with it.

The firmware takes 104,090 bytes for a transfer whatever they are, so a single stray byte would
shift every later upload and give counts to the wrong circuits. A transfer therefore begins only
when the board is known to wait, and whenever host and board have fallen out of step the line must
be quiet first::

    WAITING --send--> SENDING --Received--> MEASURING --Report--> RETURNING --Waiting--> WAITING
    any --Watchdog, or what can't come now--> OUT_OF_STEP --Waiting, quiet--> WAITING or SENDING

In every phase but WAITING an alarm is set, so that a board that says nothing more is noticed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.errors import (
    BitstreamUnsupported,
    DecoderUnavailable,
    IcebusError,
    MeasurementFailed,
)
from icebus.worker.firmware import Lines, Measured, Meter, MeterCallbacks
from icebus.worker.firmware.pulse_count._conversation import (
    QUIET,
    Conversation,
    NoReport,
    Received,
    Report,
    Started,
    Waiting,
    Watchdog,
)
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
"""Transfers of one bitstream that may break off before its measurement fails."""


@dataclass
class _Transfer:
    key: str
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
    OUT_OF_STEP = auto()


class PulseCountMeter(Meter[Report]):
    """Measures a transfer at a time."""

    def __init__(self, callbacks: MeterCallbacks[Report]) -> None:
        super().__init__(callbacks)
        self._lines = Lines()
        self._conversation = Conversation()
        self._phase = _Phase.WAITING
        self._transfer: _Transfer | None = None
        self._alarm: Timer | None = None

    @property
    def wants_more(self) -> bool:
        """Whether the board waits: it takes one bitstream at a time."""
        return self.idle

    @property
    def idle(self) -> bool:
        """Whether the board waits and nothing is under way."""
        return self._phase is _Phase.WAITING

    def measure(self, key: str, data: bytes) -> None:
        """Send ``data``, which must have the firmware's size."""
        if not self.idle or len(data) != text.BITSTREAM_SIZE:
            raise RuntimeError("a transfer of the wrong size, or at the wrong time")
        self._send(_Transfer(key, data))

    @property
    def in_step(self) -> bool:
        """Whether host and board agree about what is under way."""
        return self._phase is not _Phase.OUT_OF_STEP

    def take_over(self, other: Meter[Any]) -> None:
        """Go on where ``other`` is; it has to be in step, as nothing is sent again."""
        if not isinstance(other, PulseCountMeter):
            raise TypeError(f"{type(other).__name__} speaks to other firmware")
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
        port = self._callbacks.port()
        if port is not None and port.sending:
            port.discard()

    def receive(self, data: bytes) -> None:
        """Take in what the board says."""
        busy = not self.idle
        for line in self._lines.feed(data):
            match self._conversation.read(line):
                case Waiting():
                    self._on_waiting()
                case Started():
                    self._on_started()
                case Received():
                    self._on_received()
                case Watchdog(received):
                    self._fall_out_of_step(
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
        # Only now: what comes in one piece after the waiting line is no answer to what we send.
        if busy and self.idle:
            self._callbacks.on_wants_more()

    # --- what the board says ------------------------------------------------------------------

    def _on_waiting(self) -> None:
        match self._phase, self._transfer:
            case _Phase.OUT_OF_STEP, _:
                self._set_alarm(QUIET, self._on_quiet)
            case _Phase.SENDING, _Transfer(started=True):
                self._fall_out_of_step("the transfer broke off")
            case _Phase.SENDING, _:
                pass  # said before it had seen our first byte
            case _:
                self._end(MeasurementFailed("the board went back to waiting without a report"))
                self._wait()

    def _on_started(self) -> None:
        if self._phase is _Phase.SENDING and self._transfer and not self._transfer.started:
            self._transfer.started = True
        else:
            self._fall_out_of_step("the board began a transfer that was not sent")

    def _on_received(self) -> None:
        port, transfer = self._callbacks.port(), self._transfer
        if self._phase is not _Phase.SENDING or port is None or port.sending or transfer is None:
            self._fall_out_of_step("the board took the transfer for complete too soon")
            self._expect(REPORT_DEADLINE, "did not end what it measured unasked")
            return
        self._phase = _Phase.MEASURING
        transfer.received = time.monotonic()
        self._expect(REPORT_DEADLINE, "took the bitstream but gave no report in time")
        self._callbacks.on_measuring(transfer.key)

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
        port = self._callbacks.port()
        self._phase = _Phase.SENDING
        self._transfer = transfer
        transfer.attempts += 1
        transfer.started = False
        transfer.begun = time.monotonic()
        self._expect(UPLOAD_DEADLINE, "did not take the bitstream in time")
        if port is not None:
            port.send(transfer.data)

    def _fall_out_of_step(self, how: str) -> None:
        """Bytes of ours may have become a transfer of their own, or soon will."""
        within, self._phase = self._phase, _Phase.OUT_OF_STEP
        port = self._callbacks.port()
        if port is not None:
            port.discard()
        self._expect(RETURN_DEADLINE, "did not go back to waiting in time")
        transfer = self._transfer
        if transfer is None or within is _Phase.OUT_OF_STEP:
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
            self._wait()
            self._callbacks.on_wants_more()

    def _wait(self) -> None:
        self._phase = _Phase.WAITING
        self._clear_alarm()

    def _end(self, how: Measured[Report] | IcebusError) -> None:
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            self._callbacks.on_end(transfer.key, how)

    def _expect(self, seconds: float, otherwise: str) -> None:
        def too_late() -> None:
            self._end(MeasurementFailed(f"the board {otherwise}"))
            self._callbacks.on_silence(otherwise)

        self._set_alarm(seconds, too_late)

    def _set_alarm(self, seconds: float, callback: Callback) -> None:
        self._clear_alarm()
        self._alarm = self._callbacks.after(seconds, callback)

    def _clear_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
