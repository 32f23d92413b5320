"""Kind ``pulsecount``: how many pulses a circuit gives on one pin in a measuring window."""

from __future__ import annotations

from pydantic import Field

from icebus.schemas.errors import ErrorInfo
from icebus.schemas.ids import Id, Sha256
from icebus.schemas.message import Args, Json, Message, Natural, Timestamp

KIND = "pulsecount"
FIRMWARE = "pulse_count"

QUEUE_CAPACITY = 64
"""Evaluations that may wait on one device. More would only hide a client that runs ahead: at one
second each it is a minute's work, at 50 ms still three seconds."""


COLLECT_PAGE = 256
"""Outcomes that one ``collect`` repeats: events that a client takes without falling behind."""


class PulseCountArgs(Args):
    """What a reservation of this kind may ask for: nothing yet."""


class Queued(Message):
    """Answer to ``evaluate``: these evaluations are journalled and will have one outcome each."""

    evaluations: list[Id]
    depth: Natural = Field(description="Evaluations now waiting or measured on the device.")
    capacity: Natural = QUEUE_CAPACITY


class Acknowledged(Message):
    """Answer to ``acknowledge``."""

    forgotten: Natural = Field(description="Outcomes the worker will not repeat any more.")


class Collected(Message):
    """Answer to ``collect``: so many outcomes are repeated as events, those of one page."""

    repeated: Natural
    next: Natural | None = Field(
        default=None, description="What to pass as `after` for the next page; null at the end."
    )
    outstanding: Natural = Field(
        description="Evaluations accepted that have no outcome yet: it will come by itself."
    )


class QueueStatus(Message):
    """Answer to ``status``."""

    queued: Natural
    measuring: Id | None = Field(default=None, description="The evaluation on the board now.")
    unacknowledged: Natural
    capacity: Natural = QUEUE_CAPACITY


class Outcome(Message):
    """What results and failures have in common."""

    evaluation: Id = Field(description="The id the client gave the file.")
    batch: Id
    bitstream: str = Field(description="The file's name.")
    sha256: Sha256
    annotations: dict[str, Json] = Field(default_factory=dict)
    at: Timestamp


class PulseCountResult(Outcome):
    """Event ``results``: one bitstream measured on one device."""

    pulses: Natural = Field(description="Rising edges on pin ICE_27 in the window.")
    exact: bool = Field(
        description="True when counted, by a board or by complete simulation; false for an estimate"
    )
    cdone: bool | None = Field(
        default=None, description="Whether the FPGA took the configuration; null where not told."
    )
    note: str = Field(default="", description="Why the count is not exact.")
    upload: float = Field(ge=0, description="Seconds from the first byte to the board having all.")
    window: float = Field(ge=0, description="Seconds from then to the report.")


class EvaluationFailure(Outcome):
    """Event ``failures``: one bitstream that will have no result on one device."""

    error: ErrorInfo


class Finished(Message):
    """Event ``finished``: every evaluation of a batch on this device has had its outcome."""

    batch: Id
    results: Natural
    failures: Natural


EVENTS: dict[str, type[Message]] = {
    "results": PulseCountResult,
    "failures": EvaluationFailure,
    "finished": Finished,
}
"""What the state sends to the reservation that holds its device."""

ANSWERS: dict[str, type[Message]] = {
    "evaluate": Queued,
    "acknowledge": Acknowledged,
    "collect": Collected,
    "status": QueueStatus,
}
"""What each method returns on a device. Its arguments are on the worker's ``kinds`` topic."""
