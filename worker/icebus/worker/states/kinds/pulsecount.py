"""Kind ``pulsecount``: how many pulses a circuit gives on some pins in a measuring window."""

from __future__ import annotations

from icebus.schemas.boards import bitstream
from icebus.schemas.errors import MeasurementUnsupported
from icebus.schemas.kinds.pulsecount import (
    FIRMWARE,
    KIND,
    PIN,
    TEXT_FIRMWARE,
    WINDOW,
    PulseCountArgs,
    PulseCountMeasurement,
    PulseCountResult,
)
from icebus.worker.firmware import MeterCallbacks
from icebus.worker.firmware.pulse_count import PulseCountMeter, Report
from icebus.worker.states._framework import Event, reservable
from icebus.worker.states.measuring import Measuring

REFUSED = "the FPGA refused the bitstream (CDONE low)"


@reservable(KIND, firmware=(FIRMWARE, TEXT_FIRMWARE))
class PulseCount(Measuring[Report]):
    """Counts the pulses that circuits give on pin ICE_27, or others, in a measuring window."""

    class Args(PulseCountArgs):
        """What a reservation may ask for."""

    class MeasurementArgs(PulseCountMeasurement):
        """What a measurement may ask for."""

    takes_over = True
    results = Event(PulseCountResult, "One bitstream was measured.")

    def make_meter(self, callbacks: MeterCallbacks[Report]) -> PulseCountMeter:
        """One transfer at a time."""
        return PulseCountMeter(callbacks)

    def check_args(self, args: PulseCountMeasurement) -> None:
        """The text firmware counts one pin for one window, which can't be chosen."""
        if self.board_firmware == TEXT_FIRMWARE and args != self.MeasurementArgs():
            raise MeasurementUnsupported(
                f"device {self.device.name} runs firmware {TEXT_FIRMWARE}, which counts pin {PIN} "
                f"for {WINDOW:g} s only; for other pins and windows use boards that run firmware "
                f"{FIRMWARE} (`icebus devices` shows what they run), or have this one flashed with "
                "it, as an administrator can",
                serial=self.device.name,
                firmware=TEXT_FIRMWARE,
            )

    def check(self, data: bytes, validate: bool) -> None:
        """Even without ``validate``: what has another size would shift the transfers after it."""
        super().check(data, validate)
        bitstream.normalise(data)

    def result(self, report: Report) -> dict[str, object]:
        """What the board reported."""
        note = REFUSED if report.cdone is False else report.note
        return {
            "pulses": report.pulses,
            "pin_pulses": {PIN: report.pulses},
            "exact": report.exact,
            "cdone": report.cdone,
            "note": note,
        }
