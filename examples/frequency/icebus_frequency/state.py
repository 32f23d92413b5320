"""The state of a device that is reserved for measuring frequencies."""

from pydantic import Field

from icebus.worker.firmware import MeterCallbacks
from icebus.worker.states import Event, Measuring, reservable
from icebus_frequency.firmware import FrequencyFirmware, FrequencyMeter, Reading
from icebus_frequency.result import KIND, FrequencyResult


@reservable(KIND, firmware=FrequencyFirmware.name)
class Frequency(Measuring[Reading]):
    """Measures the frequency that circuits give on pin ICE_27."""

    class Args(Measuring.Args):
        """What a reservation may ask for."""

        gate: float = Field(0.1, ge=0.001, le=1, description="Seconds of one count.")

    class MeasurementArgs(Measuring.MeasurementArgs):
        """What a measurement may ask for."""

        repeats: int = Field(1, ge=1, le=10, description="Counts to take the mean of.")

    args: Args
    results = Event(FrequencyResult, "One bitstream was measured.")

    def make_meter(self, callbacks: MeterCallbacks[Reading]) -> FrequencyMeter:
        """One measurement at a time."""
        return FrequencyMeter(callbacks)

    def to_send(self, data: bytes, args: MeasurementArgs) -> bytes:
        """A line that says what is to be done, then the bitstream."""
        return f"measure {self.args.gate} {args.repeats} {len(data)}\n".encode() + data

    def result(self, report: Reading) -> dict[str, object]:
        """What the board reported."""
        return {"hertz": report.hertz, "resolution": report.resolution}
