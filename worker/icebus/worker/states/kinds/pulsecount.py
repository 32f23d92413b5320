"""Kind ``pulsecount``: how many pulses a circuit gives on some pins in a measuring window."""

from __future__ import annotations

from typing import Any, cast

from icebus.schemas.boards import bitstream
from icebus.schemas.boards.framed_replies import Outcome
from icebus.schemas.boards.framed_requests import CountPulses, Measure
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
from icebus.worker.firmware import Meter, MeterCallbacks
from icebus.worker.firmware.framed import FramedMeter, FramedReport
from icebus.worker.firmware.pulse_count import PulseCountMeter, Report
from icebus.worker.states._framework import Event, reservable
from icebus.worker.states.measuring import Measuring

REFUSED = "the FPGA refused the bitstream (CDONE low)"


@reservable(KIND, firmware=(FIRMWARE, TEXT_FIRMWARE))
class PulseCount(Measuring[Report | FramedReport]):
    """Counts the pulses that circuits give on pin ICE_27, or others, in a measuring window."""

    class Args(PulseCountArgs):
        """What a reservation may ask for."""

    class MeasurementArgs(PulseCountMeasurement):
        """What a measurement may ask for."""

    takes_over = True
    results = Event(PulseCountResult, "One bitstream was measured.")

    def make_meter(
        self, callbacks: MeterCallbacks[Report | FramedReport]
    ) -> Meter[Report | FramedReport]:
        """For text firmware one transfer at a time, for our own several on the board."""
        meter = FramedMeter if self._framed else PulseCountMeter
        return cast("Meter[Report | FramedReport]", meter(cast("Any", callbacks)))

    def to_send(self, data: bytes, args: PulseCountMeasurement) -> bytes:
        """Text firmware takes the bitstream as it is, ours a request that has it compressed."""
        if not self._framed:
            return data
        count = CountPulses(tuple(args.pins), round(args.window * 1e6))
        return Measure.of(data, count).pack()

    def check_args(self, args: PulseCountMeasurement) -> None:
        """The text firmware counts one pin for one window, which can't be chosen."""
        if self.board_firmware == TEXT_FIRMWARE and args != self.MeasurementArgs():
            raise MeasurementUnsupported(
                f"device {self.device.name} runs firmware {TEXT_FIRMWARE}, which counts pin {PIN} "
                f"for {WINDOW:g} s only; for other pins and windows use boards that run firmware "
                f"{FIRMWARE} (`icebus devices` shows what they run), or have this one flashed with "
                "it: a reservation for kind variance does so, and its worker does with "
                "`--firmware-policy upgrade`",
                serial=self.device.name,
                firmware=TEXT_FIRMWARE,
            )

    def check(self, data: bytes, validate: bool) -> None:
        """Even without ``validate``: what has another size would shift the transfers after it."""
        super().check(data, validate)
        bitstream.normalise(data)

    def result(self, report: Report | FramedReport) -> dict[str, object]:
        """What the board reported."""
        if isinstance(report, FramedReport):
            return _from_frames(report)
        note = REFUSED if report.cdone is False else report.note
        return {
            "pulses": report.pulses,
            "pin_pulses": {PIN: report.pulses},
            "exact": report.exact,
            "cdone": report.cdone,
            "note": note,
        }

    @property
    def _framed(self) -> bool:
        return self.board_firmware == FIRMWARE


def _from_frames(report: FramedReport) -> dict[str, object]:
    result = report.result
    configured = result.outcome is not Outcome.NOT_CONFIGURED
    pins = report.measurement.pins if isinstance(report.measurement, CountPulses) else ()
    pulses = result.pulses if configured else (0,) * len(pins)
    counted = result.window_us / 1e6 if configured else 0.0
    return {
        "pulses": pulses[0],
        "pin_pulses": dict(zip(pins, pulses, strict=True)),
        "frequency": round(pulses[0] / counted, 6) if counted else None,
        "resolution": round(1 / counted, 6) if counted else None,
        "counted": counted or None,
        "temperature": result.temperature_mc / 1000,
        "exact": not result.estimate,
        "cdone": configured and result.cdone,
        "note": result.note if configured else REFUSED,
    }
