"""Events as they come from the bus, made into models: each parsed once, straight from its bytes."""

from __future__ import annotations

from functools import cache
from typing import Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError

from icebus.schemas.message import Message, invalid

M = TypeVar("M", bound=BaseModel)


class _Envelope(Message, Generic[M]):
    """Of an event, its data: who needs its place in the stream reads a ``RawEvent``."""

    data: M


@cache
def _envelope(model: type[M]) -> type[_Envelope[M]]:
    # Written as a subscript, mypy would take it for a type.
    return cast("type[_Envelope[M]]", _Envelope.__class_getitem__(model))


def read_event(model: type[M], payload: bytes) -> M:
    """The data of an event as its model.

    Raises:
        InvalidRequest: it is something else.
    """
    try:
        data: M = _envelope(model).model_validate_json(payload).data
    except ValidationError as error:
        raise invalid(error, model.__name__) from None
    return data
