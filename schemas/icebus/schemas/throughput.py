"""How many evaluations ended in each minute of the last day, as control has counted them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from icebus.schemas.message import Message, Timestamp

MINUTE = 60.0
"""Seconds."""

MOST_MINUTES = 24 * 60
"""Minutes that are told: nights and what came before them, in some 15 kB."""

LARGEST_COUNT = 9_999_999
"""Of one minute; a farm of a thousand boards comes to a tenth of it. A worker that says more is
wrong, and the message must stay small."""

Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT)] | None


class Throughput(Message):
    """Retained on ``control/throughput``: results and failures of the whole farm by the minute."""

    began: Timestamp = Field(description="When the first minute began; the others follow it.")
    results: list[Count] = Field(
        max_length=MOST_MINUTES,
        description="In each minute, oldest first; null where no control counted.",
    )
    failures: list[Count] = Field(max_length=MOST_MINUTES, description="Likewise.")

    @model_validator(mode="after")
    def _same_minutes(self) -> Self:
        if len(self.results) != len(self.failures):
            raise ValueError("results and failures must be of the same minutes")
        return self
