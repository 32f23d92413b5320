"""Errors: the same class on both sides of the bus, and in every process."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas import errors
from icebus.schemas.errors import (
    DeadlineExceeded,
    DeviceFailed,
    ErrorInfo,
    IcebusError,
    RemoteError,
    WorkerLost,
)

CLASSES = [
    found
    for found in vars(errors).values()
    if isinstance(found, type) and issubclass(found, IcebusError) and found is not IcebusError
]
each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


@each_class
@given(message=st.text(st.characters(exclude_categories=["Cs"])), data=st.data())
def test_given_any_error_then_it_survives_the_wire(
    any_json: Any, message: str, data: st.DataObject, cls: type[IcebusError]
) -> None:
    # Details come from strangers, so they may be called what our own parameters are.
    names = st.sampled_from(["serial", "message", "self", "code", "details", "cls"])
    details = data.draw(st.dictionaries(names, any_json))
    error = cls(message, **details)
    wire = error.info().model_dump_json()
    again = IcebusError.from_info(ErrorInfo.model_validate_json(wire))
    assert type(again) is cls
    assert again.message == message
    assert again.details == details
    assert again.info() == error.info()


@each_class
def test_given_any_error_then_it_survives_pickling(cls: type[IcebusError]) -> None:
    error = cls("what happened", serial="a", message="a detail")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert (again.message, again.details) == (error.message, error.details)
    assert str(again) == "what happened"


@each_class
def test_given_any_error_then_it_is_documented_and_its_code_is_its_own(
    cls: type[IcebusError],
) -> None:
    assert cls.__doc__
    assert "code" in vars(cls)
    assert [other for other in CLASSES if other.code == cls.code] == [cls]
    assert cls.code == cls.code.lower()
    assert cls.code.replace("_", "").isalpha()


def test_given_a_code_of_the_future_then_it_is_kept_in_a_plain_error() -> None:
    info = ErrorInfo(code="board_on_fire", message="run", details={"serial": "a", "code": "x"})
    error = IcebusError.from_info(info)
    assert type(error) is RemoteError
    assert error.message == "run"
    assert error.details == {"serial": "a", "code": "board_on_fire"}


def test_given_two_errors_of_one_code_then_the_second_is_refused() -> None:
    with pytest.raises(TypeError, match="conflict"):
        type("Another", (IcebusError,), {"code": "conflict"})


def test_given_a_subclass_without_a_code_then_it_crosses_as_its_parent() -> None:
    local = type("Local", (DeviceFailed,), {})
    error = IcebusError.from_info(local("x").info())
    assert type(error) is DeviceFailed


def test_given_errors_then_they_can_be_caught_by_family() -> None:
    assert isinstance(WorkerLost("x"), DeviceFailed)
    assert isinstance(DeadlineExceeded("x"), TimeoutError)


def test_given_an_error_of_a_newer_sender_then_its_unknown_fields_are_ignored() -> None:
    wire = json.dumps({"code": "conflict", "message": "x", "hint": "y"})
    assert ErrorInfo.model_validate_json(wire).details == {}
