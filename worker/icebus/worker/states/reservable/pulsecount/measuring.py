"""Drives the pulse-count firmware through one measurement after another, and keeps in step with it.

The firmware takes 104,090 bytes for a transfer whatever they are, so a single stray byte would
shift every later upload and give counts to the wrong circuits. A transfer therefore begins only
when the board is known to wait, and after a watchdog the line must be quiet first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from icebus.schemas import pulse_count_text as text
from icebus.schemas.errors import (
    BitstreamUnsupported,
    DecoderUnavailable,
    IcebusError,
    MeasurementFailed,
)
from icebus.worker.firmware.lines import Lines
from icebus.worker.firmware.pulse_count import (
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

ATTEMPTS = 2
"""Transfers of one bitstream that the watchdog may cut off before its measurement fails."""

QUIET = 0.25
"""Seconds without a new transfer after a watchdog, which show that no stray bytes are left."""


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
    received: float | None = field(default=None)


class Meter:
    """One board's measuring, a transfer at a time. Its board must wait when this begins.

    Args:
        port: gives the board's port, None while it is away.
        after: runs a callback later.
        on_end: called with how a measurement ended.
        on_idle: called when the next may begin.
        on_silence: called when the board has stopped answering at all.
    """

    def __init__(
        self,
        port: Callable[[], Port | None],
        after: Callable[[float, Callback], Timer],
        on_end: Callable[[Measured | IcebusError], None],
        on_idle: Callable[[], None],
        on_silence: Callable[[str], None],
    ) -> None:
        self._port = port
        self._after = after
        self._on_end = on_end
        self._on_idle = on_idle
        self._on_silence = on_silence
        self._lines = Lines()
        self._conversation = Conversation()
        self._transfer: _Transfer | None = None
        self._waiting = True
        self._strayed = False
        self._alarm: Timer | None = None

    @property
    def idle(self) -> bool:
        """Whether the board waits and nothing is under way."""
        return self._waiting and self._transfer is None

    def measure(self, data: bytes) -> None:
        """Begin with ``data``, which must have the firmware's size; only when idle."""
        if not self.idle or len(data) != text.BITSTREAM_SIZE:
            raise RuntimeError("a transfer of the wrong size, or at the wrong time")
        self._transfer = _Transfer(data)
        self._send()

    def abandon(self) -> None:
        """Stop sending and forget the measurement; ``on_end`` is not called."""
        self._transfer = None
        self._quench()

    def hear(self, data: bytes) -> None:
        """Take in what the board says."""
        for line in self._lines.feed(data):
            match self._conversation.hear(line):
                case Waiting():
                    self._on_waiting()
                case Started():
                    self._waiting = False
                    self._strayed = self._transfer is None
                case Received() if self._transfer is not None:
                    self._transfer.received = time.monotonic()
                    self._expect(REPORT_DEADLINE, "took the bitstream but gave no report in time")
                case Watchdog(received):
                    self._on_watchdog(received)
                case Report() as report:
                    self._on_report(report)
                case NoReport(decoder, reason):
                    self._end(
                        DecoderUnavailable(reason) if decoder else BitstreamUnsupported(reason)
                    )
                case _:
                    pass

    def _send(self) -> None:
        port, transfer = self._port(), self._transfer
        if port is None or transfer is None:
            return
        self._waiting = False
        transfer.attempts += 1
        transfer.begun = time.monotonic()
        transfer.received = None
        self._expect(UPLOAD_DEADLINE, "did not take the bitstream in time")
        port.send(transfer.data)

    def _on_waiting(self) -> None:
        if self._strayed:
            self._strayed = False
            self._set_alarm(QUIET, self._on_quiet)
            return
        if self._transfer is not None:
            if self._transfer.received is None:
                return  # said before it had seen our first byte
            self._end(MeasurementFailed("the board went back to waiting without a report"))
        self._waiting = True
        self._on_idle()

    def _on_quiet(self) -> None:
        if self._strayed:
            return
        if self._transfer is not None:
            self._send()
        else:
            self._waiting = True
            self._on_idle()

    def _on_watchdog(self, received: int) -> None:
        self._quench()
        self._waiting = False
        self._strayed = True
        if self._transfer is not None and self._transfer.attempts >= ATTEMPTS:
            self._end(
                MeasurementFailed(
                    f"the transfer broke off {ATTEMPTS} times, with {received} of "
                    f"{text.BITSTREAM_SIZE} bytes received; check the board's cable and hub",
                    received=received,
                )
            )

    def _on_report(self, report: Report) -> None:
        transfer = self._transfer
        if transfer is None or transfer.received is None:
            return  # of a transfer that is not ours: never anyone's result
        at = time.monotonic()
        self._end(Measured(report, transfer.received - transfer.begun, at - transfer.received))

    def _end(self, how: Measured | IcebusError) -> None:
        if self._transfer is None:
            return
        self._transfer = None
        self._clear_alarm()
        self._on_end(how)

    def _quench(self) -> None:
        self._clear_alarm()
        port = self._port()
        if port is not None and port.sending:
            port.discard()

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
