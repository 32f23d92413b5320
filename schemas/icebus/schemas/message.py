"""The base of every message, and the one place where bytes from the network become models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SkipValidation,
    ValidationError,
)

from icebus.schemas.errors import InvalidRequest
from icebus.schemas.wording import plain_problem, wrong_value


class Message(BaseModel):
    """What crosses the bus as JSON.

    Unknown fields are ignored, so that a newer sender can talk to an older receiver; a field of
    the wrong type is refused.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    def to_json(self) -> bytes:
        """The message as UTF-8 JSON."""
        return self.model_dump_json().encode()


class Args(BaseModel):
    """What a caller passes to an operation, method or kind: a misspelt field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _to_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("out of the calendar") from None


Natural = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A count, as far as every database and language can count."""

Timestamp = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""A moment in UTC, ISO 8601 on the wire."""

Json = Annotated[JsonValue, SkipValidation]
"""What JSON can hold. It comes from JSON or goes there at once, so nothing else can be in it, and
looking at every value again would cost more than all else that is done to a message."""

LONGEST_FIELD = 200

NO_OBJECT = "must be an object of names and values"
"""In place of a message that names a class of ours."""

M = TypeVar("M", bound=BaseModel)


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


def problems(error: ValidationError) -> list[dict[str, str]]:
    """Where a value is wrong and why, as facts for ``details`` of an error."""
    return [
        {
            # A field can be called anything by who sends it.
            "field": ".".join(str(part) for part in found["loc"])[:LONGEST_FIELD],
            "problem": NO_OBJECT if found["type"] == "model_type" else plain_problem(found["msg"]),
        }
        for found in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def invalid(error: ValidationError, what: str) -> InvalidRequest:
    """The typed error for a value that is not what its schema says."""
    found = problems(error)
    listing = "; ".join(wrong_value(p["field"], p["problem"]) for p in found[:5])
    return InvalidRequest(f"{what} is not valid: {listing}", problems=found[:20])


def count_elements(payload: bytes) -> int:
    """How many values a JSON text has at most, about, without reading it."""
    return payload.count(b",") + payload.count(b"[") + payload.count(b"{") + payload.count(b":")


def decode(model: type[M], payload: bytes) -> M:
    """Parse a payload from the network.

    Raises:
        InvalidRequest: it is not JSON, or not what ``model`` says.
    """
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        raise invalid(error, model.__name__) from None
