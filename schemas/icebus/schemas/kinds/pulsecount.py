"""Kind ``pulsecount``: how many pulses a circuit gives on some pins in a measuring window."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from icebus.schemas import measuring
from icebus.schemas.boards.framed_requests import PINS_AT_ONCE
from icebus.schemas.measuring import Result
from icebus.schemas.message import Args, Natural

KIND = "pulsecount"

FIRMWARE = "icebus"
"""Our own firmware, for all kinds that icebus ships."""

TEXT_FIRMWARE = "pulse_count"
"""Firmware that labs have on their boards, and that speaks in lines of text."""

PIN = 27
"""The pin of the FPGA's SG48 package that is counted unless another is asked for: ICE_27."""

WINDOW = 1.0
"""Seconds that are counted unless another window is asked for."""

SHORTEST_WINDOW = 0.001
LONGEST_WINDOW = 60.0
"""Seconds. The longest that our firmware counts; 32 bits hold the pulses of it up to 71 MHz."""

Pin = Annotated[int, Field(ge=1, le=48)]
"""Of the FPGA's SG48 package."""


class PulseCountArgs(Args):
    """What a reservation of this kind may ask for: nothing yet."""


class PulseCountMeasurement(Args):
    """What a measurement may ask for. Boards with the text firmware take the defaults only."""

    pins: list[Pin] = Field(
        default=[PIN],
        min_length=1,
        max_length=PINS_AT_ONCE,
        description="Pins of the FPGA's SG48 package to count, all at once.",
        json_schema_extra={"uniqueItems": True},
    )
    window: float = Field(
        default=WINDOW, ge=SHORTEST_WINDOW, le=LONGEST_WINDOW, description="Seconds to count."
    )

    @field_validator("pins")
    @classmethod
    def _each_once(cls, pins: list[int]) -> list[int]:
        if len(set(pins)) != len(pins):
            raise ValueError("each pin once")
        return pins


class PulseCountResult(Result):
    """Event ``results``: one bitstream measured on one device."""

    pulses: Natural = Field(description="Rising edges on the first pin in the window.")
    frequency: float | None = Field(
        default=None,
        description="Hz on the first pin; null where the board does not tell how long it counted.",
        json_schema_extra={"table": "told"},
    )
    pin_pulses: dict[Pin, Natural] = Field(
        default_factory=dict,
        description="Rising edges on each pin; empty in results of versions that had one only.",
        json_schema_extra={"table": "several"},
    )
    exact: bool = Field(
        description="True when counted, by a board or by complete simulation; false for an "
        "estimate, and where the FPGA did not take the bitstream"
    )
    cdone: bool | None = Field(
        default=None,
        description="Whether the FPGA took the configuration; null where not told.",
        json_schema_extra={"table": False},
    )
    note: str = Field(
        default="", description="Why the count is not exact, or what became of the bitstream."
    )
    resolution: float | None = Field(
        default=None,
        description="Hz that one pulse more or less makes: 1 by the seconds counted.",
        json_schema_extra={"table": False},
    )
    counted: float | None = Field(
        default=None,
        description="Seconds that the board counted in truth; null where it does not tell.",
        json_schema_extra={"table": False},
    )
    temperature: float | None = Field(
        default=None,
        description="Of the board's microcontroller, degrees Celsius; null where not told.",
        json_schema_extra={"table": False},
    )

    @property
    def frequencies(self) -> dict[int, float]:
        """Hz on each pin; empty where the board does not tell how long it counted."""
        if not self.counted:
            return {}
        return {pin: pulses / self.counted for pin, pulses in self.pin_pulses.items()}


EVENTS = measuring.events(PulseCountResult)
ANSWERS = measuring.ANSWERS
