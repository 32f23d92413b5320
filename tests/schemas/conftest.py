"""Hypothesis for messages: any model of ours, filled with anything that it allows."""

from __future__ import annotations

import base64
import enum
import types
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from hypothesis import strategies as st
from pydantic import AwareDatetime, Base64Bytes, BaseModel, JsonValue

from icebus.schemas.ids import ID_PATTERN

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TIME = st.integers(0, 2**32).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
ID = st.text("AZaz09_-", min_size=1, max_size=8) | st.just("x" * 64)


def values(annotation: Any, constraints: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """What a field of that type may hold."""
    if annotation is JsonValue or annotation is Any:
        return JSON
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is Base64Bytes:
        return st.binary(max_size=64).map(base64.b64encode)
    if origin is Annotated:
        return values(args[0], (*args[1:], *constraints))
    if origin in (Union, types.UnionType):
        return st.one_of([values(each, constraints) for each in args])
    if origin is list:
        least, most = _between(constraints, MinLen, MaxLen, 0, 4)
        return st.lists(values(args[0]), min_size=least, max_size=min(most, 4))
    if origin is dict:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=3)
    if isinstance(annotation, TypeVar):
        return values(annotation.__bound__)
    if annotation is type(None):
        return st.none()
    if annotation is str:
        return _strings(constraints)
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        least, most = _between(constraints, Ge, Le, -(2**63), 2**63 - 1)
        return st.integers(least, most)
    if annotation is float:
        return _floats(constraints)
    if annotation is datetime or annotation is AwareDatetime:
        return TIME
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return st.sampled_from(list(annotation))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return models(annotation)
    raise NotImplementedError(f"no values for {annotation!r}")


def models(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Any valid instance of a model."""
    fields = {
        name: values(field.annotation, tuple(field.metadata))
        for name, field in model.model_fields.items()
    }
    required = {name: fields[name] for name, f in model.model_fields.items() if f.is_required()}
    optional = {name: each for name, each in fields.items() if name not in required}
    return st.fixed_dictionaries(required, optional=optional).flatmap(
        lambda chosen: _valid(model, chosen)
    )


def _valid(model: type[BaseModel], chosen: dict[str, Any]) -> st.SearchStrategy[Any]:
    # What a model forbids beyond its fields (one of two, no duplicates) is not drawn.
    try:
        return st.just(model(**chosen))
    except ValueError:
        return st.nothing()


def _find(constraints: tuple[Any, ...], kind: type, name: str, default: Any) -> Any:
    for each in constraints:
        if isinstance(each, kind):
            return getattr(each, name)
        for nested in getattr(each, "metadata", ()):
            if isinstance(nested, kind):
                return getattr(nested, name)
    return default


def _between(
    constraints: tuple[Any, ...], low: type, high: type, least: int, most: int
) -> tuple[int, int]:
    names = {Ge: "ge", Le: "le", MinLen: "min_length", MaxLen: "max_length"}
    return (
        _find(constraints, low, names[low], least),
        _find(constraints, high, names[high], most),
    )


def _floats(constraints: tuple[Any, ...]) -> st.SearchStrategy[float]:
    above = _find(constraints, Gt, "gt", None)
    least = _find(constraints, Ge, "ge", above)
    return st.floats(
        least,
        _find(constraints, Le, "le", None),
        exclude_min=above is not None,
        allow_nan=False,
        allow_infinity=False,
    )


def _strings(constraints: tuple[Any, ...]) -> st.SearchStrategy[str]:
    for each in constraints:
        for source in (each, *getattr(each, "metadata", ())):
            pattern = getattr(source, "pattern", None)
            if pattern == ID_PATTERN:
                return ID
            if pattern is not None:
                return st.from_regex(pattern.removesuffix("$") + r"\Z", fullmatch=True)
    return TEXT


@pytest.fixture(scope="session")
def any_of() -> Callable[[type[BaseModel]], st.SearchStrategy[Any]]:
    return models


@pytest.fixture(scope="session")
def any_json() -> st.SearchStrategy[Any]:
    return JSON
