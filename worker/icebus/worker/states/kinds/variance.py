"""Kind ``variance``: how much a voltage moves while a circuit runs, by the board's converter."""

from __future__ import annotations

from icebus.schemas.boards import bitstream
from icebus.schemas.boards.framed_replies import Outcome
from icebus.schemas.boards.framed_requests import Measure, TakeSamples
from icebus.schemas.kinds.variance import (
    FIRMWARE,
    INPUT,
    INPUTS,
    KIND,
    VarianceArgs,
    VarianceMeasurement,
    VarianceResult,
    mean_difference,
)
from icebus.worker.firmware import MeterCallbacks
from icebus.worker.firmware.framed import FramedMeter, FramedReport
from icebus.worker.states._framework import Event, reservable
from icebus.worker.states.kinds.pulsecount import REFUSED
from icebus.worker.states.measuring import Measuring

EMULATED = "the voltage is synthetic: the board is emulated"
"""Note of a result that the firmware takes for a measured one."""


@reservable(KIND, firmware=FIRMWARE)
class Variance(Measuring[FramedReport]):
    """Samples a voltage while circuits run, and says how much it moves from sample to sample."""

    class Args(VarianceArgs):
        """What a reservation may ask for."""

    class MeasurementArgs(VarianceMeasurement):
        """What a measurement may ask for."""

    takes_over = True
    results = Event(VarianceResult, "One bitstream was measured.")

    def make_meter(self, callbacks: MeterCallbacks[FramedReport]) -> FramedMeter:
        """Several measurements on the board."""
        return FramedMeter(callbacks)

    def check(self, data: bytes, validate: bool) -> None:
        """Even without ``validate``: the board takes bitstreams of one size."""
        super().check(data, validate)
        bitstream.normalise(data)

    def to_send(self, data: bytes, args: VarianceMeasurement) -> bytes:
        """A request that has the bitstream compressed."""
        samples = TakeSamples(self._input(args), args.rate, args.samples)
        return Measure.of(data, samples).pack()

    def result(self, report: FramedReport) -> dict[str, object]:
        """What the board reported, without what depends on what was asked for."""
        told, samples = report.result, report.samples
        configured = told.outcome is not Outcome.NOT_CONFIGURED
        board = self.device.board
        # The firmware itself does not know that its chip, and so the voltage, is emulated.
        emulated = board is not None and board.emulated
        note = told.note or (EMULATED if emulated else "")
        return {
            "mean_difference": round(mean_difference(samples), 3),
            "lowest": min(samples, default=0),
            "highest": max(samples, default=0),
            "samples": len(samples),
            "exact": not (told.estimate or emulated),
            "cdone": configured and told.cdone,
            "note": note if configured else REFUSED,
            "temperature": told.temperature_mc / 1000,
        }

    def result_of(self, report: FramedReport, args: VarianceMeasurement) -> dict[str, object]:
        """With the rate, and the waveform where that was asked for.

        The rate is the divided clock's: of few samples the time that the board reports, in whole
        microseconds from the start to the last of them, tells it badly.
        """
        taking = TakeSamples(self._input(args), args.rate, args.samples)
        return {
            **self.result(report),
            "rate": round(1 / taking.period, 3) if report.samples else 0.0,
            "waveform": list(report.samples) if args.waveform else None,
        }

    def _input(self, args: VarianceMeasurement) -> int:
        """The converter's input: the first that the board has, unless another is asked for."""
        if args.input is not None:
            return args.input
        board = self.device.board
        chip = board.chip if board is not None else None
        return INPUTS[chip] if chip is not None else INPUT
