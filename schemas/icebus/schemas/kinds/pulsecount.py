"""Kind ``pulsecount``: how many pulses a circuit gives on one pin in a measuring window."""

from __future__ import annotations

from pydantic import Field

from icebus.schemas import measuring
from icebus.schemas.measuring import Result
from icebus.schemas.message import Args, Natural

KIND = "pulsecount"

FIRMWARE = "icebus"
"""Our own firmware, for all kinds that icebus ships."""

TEXT_FIRMWARE = "pulse_count"
"""Firmware that labs have on their boards, and that speaks in lines of text."""


class PulseCountArgs(Args):
    """What a reservation of this kind may ask for: nothing yet."""


class PulseCountResult(Result):
    """Event ``results``: one bitstream measured on one device."""

    pulses: Natural = Field(description="Rising edges on pin ICE_27 in the window.")
    exact: bool = Field(
        description="True when counted, by a board or by complete simulation; false for an estimate"
    )
    cdone: bool | None = Field(
        default=None,
        description="Whether the FPGA took the configuration; null where not told.",
        json_schema_extra={"table": False},
    )
    note: str = Field(
        default="", description="Why the count is not exact, or what became of the bitstream."
    )


EVENTS = measuring.events(PulseCountResult)
ANSWERS = measuring.ANSWERS
