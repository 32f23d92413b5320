"""Every message: out as JSON and in again; strangers tolerated; nonsense refused, typed."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from icebus.schemas import calls, components, devices, kinds, measuring
from icebus.schemas.calls import Call, Event, Reply, Request, event_json
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.kinds import pulsecount
from icebus.schemas.message import LONGEST_FIELD, Args, Message, decode, invalid
from icebus.schemas.operations import administration, history, reservations
from icebus.schemas.operations.reservations import ReserveArgs


def defined_in(module: Any) -> list[type[BaseModel]]:
    return [
        found
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, (Message, Args)) and found.__module__ == module.__name__
    ]


KINDS = [
    importlib.import_module(f"{kinds.__name__}.{found.name}")
    for found in pkgutil.iter_modules(kinds.__path__)
]
MODELS = [
    model
    for module in (administration, calls, components, devices, history, reservations, *KINDS)
    for model in defined_in(module)
    if not model.__pydantic_generic_metadata__["parameters"]
] + [Event[pulsecount.PulseCountResult], Event[reservations.Ended]]
ENVELOPES = [model for model in MODELS if issubclass(model, Message)]
ARGUMENTS = [model for model in MODELS if issubclass(model, Args)]


def test_given_data_as_json_then_the_event_around_it_is_what_its_model_writes() -> None:
    data = measuring.BatchFinished(reservation="r1", serial="S1", batch="b1", results=2, failures=0)
    text = event_json(7, data.model_dump_json())
    event = Event[measuring.BatchFinished].model_validate_json(text)
    assert (event.sequence, event.data) == (7, data)
    assert abs(datetime.now(UTC) - event.at) < timedelta(minutes=1)
    written = event.model_dump_json()
    if event.at.microsecond:  # pydantic leaves out what is 0
        assert json.loads(written) == json.loads(text)


def named(model: type[BaseModel]) -> str:
    return model.__name__


def test_given_the_schemas_then_every_kind_of_message_is_among_the_tested() -> None:
    names = {named(model) for model in MODELS}
    assert {"Request", "Reply", "Desired", "WorkerState", "Reservation", "PulseCountArgs"} <= names
    assert len(MODELS) > 40


@pytest.mark.parametrize("model", MODELS, ids=named)
@given(data=st.data())
def test_given_any_message_then_it_survives_the_wire(
    any_of: Any, data: st.DataObject, model: type[BaseModel]
) -> None:
    message = data.draw(any_of(model))
    wire = message.model_dump_json().encode()
    assert decode(model, wire) == message
    assert decode(model, wire).model_dump_json().encode() == wire


@pytest.mark.parametrize("model", ENVELOPES, ids=named)
@given(data=st.data())
def test_given_fields_of_a_newer_sender_then_an_envelope_is_read_all_the_same(
    any_of: Any, data: st.DataObject, model: type[BaseModel]
) -> None:
    message = data.draw(any_of(model))
    wire = json.loads(message.model_dump_json())
    wire["a_field_of_the_future"] = {"x": [1]}
    assert decode(model, json.dumps(wire).encode()) == message


@pytest.mark.parametrize("model", ARGUMENTS, ids=named)
@given(data=st.data())
def test_given_a_misspelt_argument_then_it_is_refused_by_name(
    any_of: Any, data: st.DataObject, model: type[BaseModel]
) -> None:
    wire = json.loads(data.draw(any_of(model)).model_dump_json())
    wire["durration"] = 1
    with pytest.raises(InvalidRequest, match="durration") as caught:
        decode(model, json.dumps(wire).encode())
    assert {"field": "durration", "problem": "is not known here"} in (
        caught.value.details["problems"]
    )


def test_given_no_object_where_one_belongs_then_the_refusal_names_no_class_of_ours() -> None:
    class Outer(Args):
        inner: Args

    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"inner": 3})
    assert invalid(caught.value, "it").message == (
        "it is not valid: inner must be an object of names and values"
    )


@pytest.mark.parametrize("model", MODELS, ids=named)
@given(data=st.data())
def test_given_a_field_of_the_wrong_type_then_it_is_refused_by_name(
    any_of: Any, data: st.DataObject, model: type[BaseModel]
) -> None:
    wire = json.loads(data.draw(any_of(model)).model_dump_json())
    typed = [name for name in model.model_fields if name not in ("ok", "data", "args")]
    if not typed:
        return
    wrong = data.draw(st.sampled_from(typed))
    # No field of any message is a list of lists.
    wire[wrong] = [[[]]]
    with pytest.raises(InvalidRequest) as caught:
        decode(model, json.dumps(wire).encode())
    assert any(p["field"].split(".")[0] == wrong for p in caught.value.details["problems"])


@pytest.mark.parametrize("model", MODELS, ids=named)
@given(
    payload=st.binary(max_size=200) | st.text().map(lambda text: text.encode("utf-8", "replace"))
)
def test_given_any_bytes_then_reading_raises_only_our_error(
    payload: bytes, model: type[BaseModel]
) -> None:
    read(model, payload)


@pytest.mark.parametrize("model", MODELS, ids=named)
@given(data=st.data())
def test_given_any_json_under_the_right_names_then_reading_raises_only_our_error(
    any_json: Any, data: st.DataObject, model: type[BaseModel]
) -> None:
    names = st.sampled_from([*model.model_fields, "other"])
    read(model, json.dumps(data.draw(st.dictionaries(names, any_json))).encode())


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe\x00",
        b"null",
        b"[" * 200_000,
        b'{"args":' * 200_000,
        b"1" * 100_000,
        b'{"sequence": ' + b"9" * 4000 + b"}",
        b'{"sequence": 1e999, "interval": 1e999, "duration": 1e999}',
        b'{"interval": NaN, "duration": Infinity, "progress": -Infinity}',
        b'{"at": "0001-01-01T00:00:00+23:59", "since": "0001-01-01T00:00:00+23:59"}',
        b'{"until": "9999-12-31T23:59:59-23:59", "created": 1e300, "before": -1e300}',
        b'{"id": "\\ud800", "user": "\\u0000", "\\udfff": 1}',
        b'{"id": "' + b"a" * 1_000_000 + b'"}',
        b'{"' + b"a" * 1_000_000 + b'": 1}',
        b'{"id": "a", "id": "b", "id": 3}',
    ],
    ids=lambda payload: f"{payload[:20]!r}",
)
def test_given_a_hostile_payload_then_the_error_is_ours_and_small(payload: bytes) -> None:
    for model in MODELS:
        error = read(model, payload)
        if error is not None:
            assert error.details["problems"]
            assert len(error.info().model_dump_json()) < 5 * (LONGEST_FIELD + 500)


def read(model: type[BaseModel], payload: bytes) -> InvalidRequest | None:
    """Read it; a message that is accepted must go out again as what it is."""
    try:
        message = decode(model, payload)
    except InvalidRequest as error:
        return error
    assert decode(model, message.model_dump_json().encode()) is not None
    return None


# --- numbers and times --------------------------------------------------------------------------


@pytest.mark.parametrize("duration", ["NaN", "Infinity", "-Infinity", "1e999", "-1", "0"])
def test_given_a_duration_that_is_none_then_it_is_refused(duration: str) -> None:
    payload = f'{{"kind": "pulsecount", "count": 1, "duration": {duration}}}'.encode()
    with pytest.raises(InvalidRequest, match="duration"):
        decode(ReserveArgs, payload)


@pytest.mark.parametrize("generation", [-1, 2**63, 10**30])
def test_given_a_number_no_database_can_hold_then_it_is_refused(generation: int) -> None:
    payload = json.dumps({"serial": "a", "generation": generation}).encode()
    with pytest.raises(InvalidRequest, match="generation"):
        decode(devices.Desired, payload)


def test_given_a_time_in_any_zone_then_it_is_kept_in_utc() -> None:
    local = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    event = reservations.EndingSoon(reservation="r", until=local)
    assert event.until.tzinfo is UTC
    assert event.until == local
    assert b"2030-01-01T10:00:00Z" in event.to_json()


@pytest.mark.parametrize("until", ["2030-01-01T12:00:00", "yesterday", "", None])
def test_given_a_time_without_a_zone_then_it_is_refused(until: str | None) -> None:
    payload = json.dumps({"reservation": "r", "until": until}).encode()
    with pytest.raises(InvalidRequest, match="until"):
        decode(reservations.EndingSoon, payload)


# --- requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({}, "kind"),
        ({"kind": "pulsecount"}, "either count or serials"),
        ({"kind": "pulsecount", "count": 1, "serials": ["a"]}, "either count or serials"),
        ({"kind": "pulsecount", "count": 0}, "count"),
        ({"kind": "pulsecount", "count": 10_001}, "count"),
        ({"kind": "pulsecount", "serials": []}, "serials"),
        ({"kind": "pulsecount", "serials": ["a", "a"]}, "each device once"),
        ({"kind": "pulsecount", "serials": ["a/b"]}, "serials"),
        ({"kind": "pulse count", "count": 1}, "kind"),
        ({"kind": "pulsecount", "count": "many"}, "count"),
    ],
)
def test_given_a_wrong_reserve_then_the_error_says_where(
    asked: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        decode(ReserveArgs, json.dumps(asked).encode())


def test_given_two_requests_then_their_ids_differ() -> None:
    assert Request().id != Request().id


def test_given_a_call_then_it_names_at_least_one_device() -> None:
    with pytest.raises(InvalidRequest, match="serials"):
        decode(Call, b'{"reservation": "r", "serials": []}')


def test_given_a_reply_then_ok_may_be_anything() -> None:
    answers: list[Any] = [None, 0, "", [], {}, False]
    for ok in answers:
        assert decode(Reply, Reply(id="r", ok=ok).to_json()).ok == ok


def test_given_a_message_then_it_can_not_be_changed() -> None:
    request = Request()
    with pytest.raises(ValueError, match="frozen"):
        request.id = "other"  # type: ignore[misc]
