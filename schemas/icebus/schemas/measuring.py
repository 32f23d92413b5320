"""What every kind that measures files has on the bus: a file in, exactly one outcome for it.

A kind adds a :class:`Result` of its own and what a measurement takes; queue, batches,
acknowledging and collecting are the same for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr

from icebus.schemas.errors import AnyError
from icebus.schemas.ids import Id, Serial, Sha256
from icebus.schemas.message import Json, Message, Natural, Timestamp
from icebus.schemas.shown import html_values, named_values
from icebus.schemas.wording import said_of

QUEUE_CAPACITY = 64
"""Evaluations that may wait on one device. More would only hide a client that runs ahead: at one
second each it is a minute's work, at 50 ms still three seconds."""

Seconds = Annotated[float, Field(ge=0)]

COLLECT_PAGE = 256
"""Outcomes that one ``collect`` repeats: events that a client takes without falling behind."""


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


class Withdrawn(Message):
    """Answer to ``withdraw``."""

    withdrawn: Natural = Field(description="Evaluations of the batch that waited; each has failed.")
    measuring: Natural = Field(
        description="Those that were on the board already; each has its outcome when it is done."
    )


class QueueStatus(Message):
    """Answer to ``status``."""

    queued: Natural
    measuring: Id | None = Field(default=None, description="The evaluation on the board now.")
    unacknowledged: Natural
    capacity: Natural = QUEUE_CAPACITY


_OFFERED = ("model_dump", "model_dump_json", "model_extra", "to_json")
"""What Tab shows of an outcome besides what it says."""


class Outcome(Message):
    """What results and failures have in common."""

    serial: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,64}$")] = Field(
        default="", description="The device; empty when none has tried."
    )
    evaluation: Id = Field(description="The id the client gave the file.")
    batch: Id
    bitstream: str = Field(description="The file's name.")
    sha256: Sha256
    annotations: dict[str, Json] = Field(default_factory=dict)
    at: Timestamp = Field(description="When the worker had it.")
    queued: Seconds | None = Field(
        default=None,
        description="From when the worker accepted it to the first byte that the board was sent; "
        "of a failure, to its end. Null where not told.",
    )

    _source: Any = PrivateAttr(default=None)
    _delivered: datetime | None = PrivateAttr(default=None)

    @property
    def source(self) -> Any:
        """The very object that the client was given for the file; it never leaves its process.

        None for event handlers. It lives as long as this does: for long runs, give paths or small
        objects rather than keep many results with their bytes.
        """
        return self._source

    @property
    def delivered(self) -> datetime | None:
        """When it came to the run in this process, by its clock; it never leaves that.

        None for event handlers, and for what was collected later.
        """
        return self._delivered

    def with_source(self, source: Any, delivered: datetime | None = None) -> Self:
        """The same outcome, which knows what was given for its file, and when it came."""
        outcome = self.model_copy()
        outcome._source = source
        outcome._delivered = delivered
        return outcome

    def __eq__(self, other: object) -> bool:
        """Whether both say the same, wherever their files came from."""
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment] # annotations may hold anything

    def _measured(self) -> dict[str, object]:
        """What it says of its own, by name, where there is anything to say."""
        common = {*Outcome.model_fields, *Result.model_fields}
        own = {name: value for name, value in self if name not in common}
        return {name: value for name, value in own.items() if value not in (None, "", [], {})}

    def _shown(self) -> Iterator[tuple[str, object]]:
        yield "bitstream", self.bitstream
        if self.serial:
            yield "serial", self.serial
        yield from self._measured().items()
        if self.annotations:
            yield "annotations", self.annotations

    def __repr__(self) -> str:
        return f"{type(self).__name__}({named_values(self._shown())})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """What it says, for notebooks."""
        return html_values(type(self).__name__, [*self._shown(), ("at", f"{self.at:%F %T} UTC")])

    def __dir__(self) -> list[str]:
        # Pydantic has many names, and some of them warn when a notebook looks at them for Tab.
        own = {name for cls in type(self).__mro__ if issubclass(cls, Outcome) for name in vars(cls)}
        fields = {*type(self).model_fields, *(self.model_extra or {})}
        return sorted({*own, *fields, *_OFFERED} - {"model_config"})


class Result(Outcome):
    """Event ``results``: one file measured on one device. A kind says in its own what came out."""

    upload: float = Field(ge=0, description="Seconds from the first byte to the board having all.")
    waited: Seconds | None = Field(
        default=None,
        description="From then until the board began with it, if others were before it there. "
        "Null where not told.",
    )
    window: float = Field(ge=0, description="Seconds from then to the report.")
    configured: Seconds | None = Field(
        default=None,
        description="Of these, what configuring the FPGA took. Null where the board does not tell.",
    )


class Failure(Outcome):
    """Event ``failures``: one bitstream that will have no result on one device."""

    error: AnyError = Field(description="Why; its ``code`` is stable.")

    def _measured(self) -> dict[str, object]:
        return {"code": self.error.code, "message": self.error.message}

    @property
    def where(self) -> str:
        """The bitstream and the device, for people."""
        return f"{self.bitstream} on {self.serial}" if self.serial else self.bitstream

    @property
    def told(self) -> str:
        """What failed, where and why, for people."""
        return said_of(self.where, str(self.error), prefixed_with=self.bitstream)


class BatchFinished(Message):
    """Event ``finished``: every evaluation of a batch on this device has had its outcome."""

    reservation: Id
    serial: Serial
    batch: Id = Field(description="One call of `evaluate` in the client is one batch.")
    results: Natural
    failures: Natural


def events(result: type[Result]) -> Mapping[str, type[Message]]:
    """What a measuring kind sends to the reservation that holds its device."""
    return {"results": result, "failures": Failure, "finished": BatchFinished}


ANSWERS: Mapping[str, type[Message]] = {
    "evaluate": Queued,
    "acknowledge": Acknowledged,
    "collect": Collected,
    "withdraw": Withdrawn,
    "status": QueueStatus,
}
"""What each method returns on a device. Its arguments are on the worker's ``kinds`` topic."""
