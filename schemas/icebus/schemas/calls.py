"""The envelopes of request/response and of events."""

from __future__ import annotations

from functools import cache
from typing import Any, Generic, TypeVar, cast

from pydantic import (
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from icebus.schemas.errors import ErrorInfo
from icebus.schemas.ids import Id, Serial, new_id
from icebus.schemas.message import Json, Message, Natural, Timestamp, invalid, now


class Request(Message):
    """A request to control. ``id`` survives retries: the same id gets the same answer."""

    id: Id = Field(default_factory=new_id)
    args: dict[str, Any] = Field(default_factory=dict)


class Call(Request):
    """A call of a method on devices of one worker that one reservation holds."""

    reservation: Id
    serials: list[Serial] = Field(min_length=1, max_length=1024)


class Reply(Message):
    """The answer to a request: it has exactly one of ``ok`` and ``error``."""

    id: Id
    ok: Json = None
    error: ErrorInfo | None = None

    @model_validator(mode="after")
    def _not_both(self) -> Reply:
        if self.ok is not None and self.error is not None:
            raise ValueError("a reply is either ok or an error")
        return self

    @model_serializer(mode="wrap")
    def _one_of_two(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the one that does not apply, so that its presence alone tells."""
        fields: dict[str, Any] = serialize(self)
        del fields["ok" if self.error is not None else "error"]
        return fields


class CallResults(Message):
    """``ok`` of a call: what the method returned on each device, or why it failed there."""

    results: dict[Serial, Json] = Field(default_factory=dict)
    errors: dict[Serial, ErrorInfo] = Field(default_factory=dict)


D = TypeVar("D", bound=Message)


class Event(Message, Generic[D]):
    """An event as it is sent to a reservation: the data with its place in the stream."""

    sequence: Natural = Field(description="Counts the sender's events; gaps mean loss.")
    at: Timestamp = Field(default_factory=now)
    data: SerializeAsAny[D]


def event_json(sequence: int, data: str) -> bytes:
    """An :class:`Event` of now as JSON, around the JSON of its data.

    A model would have to be made and written again of what was written for the journal already.
    """
    return f'{{"sequence":{sequence},"at":"{now():%Y-%m-%dT%H:%M:%S.%f}Z","data":{data}}}'.encode()


class RawEvent(Message):
    """An event whose kind is not known to the reader."""

    sequence: Natural = 0
    at: Timestamp = Field(default_factory=now)
    data: dict[str, Json] = Field(default_factory=dict)


class _EventData(Message, Generic[D]):
    """Of an event, its data: who needs its place in the stream reads a ``RawEvent``."""

    data: D


@cache
def _event_data(model: type[D]) -> type[_EventData[D]]:
    # Written as a subscript, mypy would take it for a type.
    return cast("type[_EventData[D]]", _EventData.__class_getitem__(model))


def read_event(model: type[D], payload: bytes) -> D:
    """The data of an event as its model, parsed once, straight from the bytes.

    Raises:
        InvalidRequest: it is something else.
    """
    try:
        data: D = _event_data(model).model_validate_json(payload).data
    except ValidationError as error:
        raise invalid(error, model.__name__) from None
    return data
