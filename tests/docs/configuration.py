"""The tables of keys in docs/worker.md, from the model that reads a worker's configuration."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from icebus.worker.configuration import Configuration

TEXTS = {str: "text", Path: "path", float: "number", bool: "true or false"}


def key_table() -> str:
    """All keys of the file, in the order of its tables."""
    rows = ["| key | value | default | what |", "| --- | --- | --- | --- |", *_rows(Configuration)]
    return "\n".join(rows) + "\n"


def _rows(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    later = []
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is None:
            value = _value(field.annotation)
            yield f"| `{prefix}{name}` | {value} | {_default(field)} | {field.description} |"
        else:
            many = typing.get_origin(field.annotation) is tuple
            later.append((inner, f"{prefix}{name}[]." if many else f"{prefix}{name}."))
    for inner, path in later:
        yield from _rows(inner, path)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    for each in (annotation, *typing.get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _several(annotation: Any) -> str:
    what, of, rest = _value(annotation).partition(" ")
    return f"{what}s{of}{rest}"


def _value(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _value(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return _value(next(each for each in arguments if each is not type(None)))
    if origin is tuple:
        return f"list of {_several(arguments[0])}"
    if origin is dict:
        return f"table of {_several(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return ", ".join(f"`{each.value}`" for each in annotation)
    return TEXTS[annotation]


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if default is None or default == () or default == {}:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
