"""Kind ``pulsecount``: how many pulses a circuit gives in the firmware's measuring window."""

from __future__ import annotations

from icebus.schemas.boards import bitstream
from icebus.schemas.kinds.pulsecount import (
    FIRMWARE,
    KIND,
    TEXT_FIRMWARE,
    PulseCountArgs,
    PulseCountResult,
)
from icebus.worker.firmware import MeterCallbacks
from icebus.worker.firmware.pulse_count import PulseCountMeter, Report
from icebus.worker.states._framework import Event, reservable
from icebus.worker.states.measuring import Measuring

REFUSED = "the FPGA refused the bitstream (CDONE low)"


@reservable(KIND, firmware=(FIRMWARE, TEXT_FIRMWARE))
class PulseCount(Measuring[Report]):
    """Counts the pulses that circuits give on pin ICE_27 in the firmware's measuring window."""

    class Args(PulseCountArgs):
        """What a reservation may ask for."""

    takes_over = True
    results = Event(PulseCountResult, "One bitstream was measured.")

    def make_meter(self, callbacks: MeterCallbacks[Report]) -> PulseCountMeter:
        """One transfer at a time."""
        return PulseCountMeter(callbacks)

    def check(self, data: bytes, validate: bool) -> None:
        """Even without ``validate``: what has another size would shift the transfers after it."""
        super().check(data, validate)
        bitstream.normalise(data)

    def result(self, report: Report) -> dict[str, object]:
        """What the board reported."""
        note = REFUSED if report.cdone is False else report.note
        return {
            "pulses": report.pulses,
            "exact": report.exact,
            "cdone": report.cdone,
            "note": note,
        }
