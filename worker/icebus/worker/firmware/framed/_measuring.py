"""One measurement that a board is asked for: what came of it, in the words that people are told."""

from __future__ import annotations

from dataclasses import dataclass, field

from icebus.schemas.boards.framed_replies import Outcome, Rejected, Result
from icebus.schemas.boards.framed_requests import CountPulses, Measurement, TakeSamples
from icebus.schemas.errors import IcebusError, MeasurementFailed, MeasurementUnsupported
from icebus.worker.firmware._meter import Measured
from icebus.worker.firmware.framed._effects import FramedReport

ATTEMPTS = 3
"""Times that one measurement is sent before it fails."""

CHECK_CABLE = "check the board's cable and hub"

ARGUMENTS = {
    0: "size of the bitstream",
    8: "encoding",
    9: "sort of measurement",
    10: "number of pins",
    11: "input",
    12: "pins",
    16: "window",
    20: "sample rate",
    24: "number of samples",
}
"""What stands where in the payload of a ``MEASURE``, for people."""


@dataclass(slots=True)
class Measuring:
    """A measurement on its way, and when what happened to it."""

    key: str
    payload: bytes
    measurement: Measurement
    attempts: int = 0
    samples: list[int] = field(default_factory=list)
    sent_at: float = 0.0
    accepted_at: float = 0.0
    begun_at: float = 0.0

    @property
    def seconds(self) -> float:
        """How long the board measures."""
        if isinstance(self.measurement, CountPulses):
            return self.measurement.window_us / 1e6
        return self.measurement.count / max(1, self.measurement.rate_hz)

    def again(self, now: float) -> None:
        """It is sent, perhaps not for the first time."""
        self.attempts += 1
        self.samples.clear()
        self.sent_at = now

    def measured(self, result: Result, now: float) -> Measured[FramedReport] | IcebusError | None:
        """How it has ended with this result; None when samples of it were lost on the way."""
        asked = self.measurement
        pins = len(asked.pins) if isinstance(asked, CountPulses) else 0
        count = asked.count if isinstance(asked, TakeSamples) else 0
        if len(self.samples) != result.samples:
            return None
        if result.outcome is Outcome.MEASURED and len(result.pulses) != pins:
            return MeasurementFailed(
                f"the board counted {len(result.pulses)} pins instead of {pins}"
            )
        if result.outcome is Outcome.MEASURED and result.samples != count:
            return MeasurementFailed(f"the board took {result.samples} samples instead of {count}")
        report = FramedReport(asked, result, tuple(self.samples))
        begun = max(self.accepted_at, self.begun_at)
        return Measured(
            report,
            upload=self.accepted_at - self.sent_at,
            window=now - begun,
            waited=begun - self.accepted_at,
            configured=result.configure_us / 1e6 or None,
        )

    def given_up(self, why: str) -> MeasurementFailed:
        """It was sent often enough."""
        at = f"at attempt {self.attempts} of {ATTEMPTS}"
        return MeasurementFailed(f"{why}, {at}; {CHECK_CABLE}")

    def refused(self, rejected: Rejected) -> MeasurementFailed:
        """The board does not understand it."""
        return MeasurementFailed(
            f"the board refuses {len(self.payload)} bytes: {rejected.reason.name} "
            f"{rejected.detail}; flash it with firmware of this version"
        )

    def not_able(self, offset: int) -> MeasurementUnsupported:
        """The board can't do what stands at ``offset`` of the payload."""
        argument, value = ARGUMENTS.get(offset, f"argument at {offset}"), ""
        match self.measurement, offset:
            case TakeSamples(adc_input=adc_input), 11:
                value = f" {adc_input}"
            case CountPulses(pins=pins), 12:
                value = f" {', '.join(map(str, pins))}"
        return MeasurementUnsupported(
            f"the board can't measure so: it refuses {argument}{value}; ask for another, or select "
            "boards that can (docs/firmware.md says which pins and inputs boards have)",
            argument=argument,
        )
