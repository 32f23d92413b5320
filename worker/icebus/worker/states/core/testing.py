"""Finding out what a board runs, and that it lives and is idle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.devices import DeviceState
from icebus.worker.firmware import catalogue, pulse_count
from icebus.worker.firmware.lines import Lines
from icebus.worker.states._framework import State

if TYPE_CHECKING:
    from icebus.worker.hardware.port import Port
    from icebus.worker.loop import Timer

LISTEN = text.WATCHDOG_SECONDS + 0.5
"""Seconds to listen to a board that may say by itself what it runs: the default firmware repeats
its name (its real interval is unverified), and an upload that somebody left unfinished ends with
the watchdog's words."""

ANSWER = 12.0
"""Seconds a board may take to come to rest once it has said something: an upload of somebody who
died is dropped after 2 s, the longest measuring window known is 5 s, loading takes tens of ms."""

BLANK = b"\xff" * text.BITSTREAM_SIZE
"""A transfer that configures nothing: it has no preamble, so the FPGA stays unconfigured and the
count is 0. It takes the firmware through its whole conversation."""


class Testing(State):
    """Listens, and if the board says nothing, has it measure a blank bitstream.

    A board opened anew never shows its greeting, so silence says nothing yet.

    Args:
        reported: as what this appears on the bus: testing, preparing, or releasing for a board
            that was just at work and only needs to come to rest.
        expect: the firmware it must turn out to run; None when any known one will do.
        reason: why it is tested, where something was wrong with it.
    """

    def __init__(self, reported: DeviceState, expect: str | None = None, reason: str = "") -> None:
        super().__init__()
        self.reported = reported
        self.reason = reason
        self._expect = expect
        self._lines = Lines()
        self._conversation = pulse_count.Conversation()
        self._heard = ""
        self._probed = False
        self._received = False
        self._reported = False
        self._strayed = False
        self._quiet: Timer | None = None

    def on_add(self, port: Port) -> None:
        """Listen, or speak first to a firmware that is known to be silent."""
        if self._expect == pulse_count.NAME and self.reported is not DeviceState.RELEASING:
            self._probe()
        else:
            self.after(LISTEN, self._silent)

    def on_desired(self) -> None:
        """The work goes on; it may now be for a reservation."""
        if self.reported is not DeviceState.RELEASING:
            self.reported = self.device.purpose(self.reported)

    def on_data(self, data: bytes) -> None:
        """Look for what gives the firmware away."""
        port = self.device.port
        for line in self._lines.feed(data):
            if line == text.DEFAULT_LINE:
                self._prove(catalogue.DEFAULT)
                return
            if not self._heard and not pulse_count.recognises(line):
                continue
            if not self._heard:
                self._heard = pulse_count.NAME
                self.after(ANSWER, self._restless)
            match self._conversation.hear(line):
                case pulse_count.Received():
                    self._received = self._probed
                case pulse_count.Report() | pulse_count.NoReport():
                    self._reported = self._received
                case pulse_count.Watchdog():
                    self._strayed = True
                    if port is not None:
                        port.discard()
                case pulse_count.Started() if self._quiet is not None:
                    self._quiet.cancel()
                case pulse_count.Waiting() if self._strayed:
                    # What is left of a transfer that broke off would start another.
                    self._quiet = self.after(pulse_count.QUIET, self._rested)
                case pulse_count.Waiting() if self._received is self._probed:
                    self._conversed()
                    return
                case _:
                    pass

    def _rested(self) -> None:
        if self._received is self._probed:
            self._conversed()
        else:
            self._probe()

    def _silent(self) -> None:
        if not self._heard:
            self._probe()

    def _probe(self) -> None:
        port = self.device.port
        if port is not None and not port.sending:
            self._probed = True
            port.send(BLANK)
            self.after(ANSWER, self._unknown)

    def _conversed(self) -> None:
        """It waits for the next transfer: as it should, if it gave a report of ours."""
        if self._probed and not self._reported:
            self.device.fail("took a blank bitstream but gave no report that can be understood")
        else:
            self._prove(pulse_count.NAME)

    def _prove(self, firmware: str) -> None:
        if self._expect is not None and firmware != self._expect:
            self.device.fail(f"flashed with {self._expect} but runs {firmware}")
        else:
            self.device.proved(firmware)

    def _restless(self) -> None:
        self.device.fail(
            f"runs {self._heard or self._expect} but did not come to rest in {ANSWER:.0f} s"
        )

    def _unknown(self) -> None:
        if not self._heard:
            self.device.unrecognised()
