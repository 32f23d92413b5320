"""JSON Schemas as people read them: the fields of an object, and what each may be. Pure."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

FILE_FIELDS = frozenset({"sha256", "data", "name"})
"""By these fields an argument is known to be a file, whatever its class is called."""

MISSING = object()
"""Stands for a default where there is none: null is one."""

NUMERIC = frozenset({"integer", "number"})
"""JSON types of numbers."""

DEPTH = 6
"""Levels to which references are followed: more than it takes to see a list of files, and few
enough for what refers to itself on many branches."""


LIMITS: Mapping[str, tuple[str, Callable[[float, float], bool]]] = {
    "minimum": ("at least", operator.ge),
    "exclusiveMinimum": ("above", operator.gt),
    "maximum": ("at most", operator.le),
    "exclusiveMaximum": ("below", operator.lt),
}
"""Keywords that limit a number: in words, and whether a number keeps to them."""


LARGEST_INTEGER = 2**63 - 1
"""Where databases and languages cease to count: no limit that anybody meets."""


@dataclass(frozen=True)
class Field:
    """A field of an object.

    Attributes:
        name: its key.
        schema: its own, with references resolved.
        required: whether it has to be given.
        default: what it is otherwise; ``MISSING`` when only the receiver knows.
    """

    name: str
    schema: Schema
    required: bool
    default: Any = MISSING

    @property
    def description(self) -> str:
        """One line."""
        return " ".join(str(self.schema.get("description", "")).split())

    def __str__(self) -> str:
        shown = f"{self.name}: {type_of(self.schema)}"
        return shown if self.default is MISSING else f"{shown} = {json.dumps(self.default)}"


def fields(schema: Schema) -> list[Field]:
    """The fields of an object's schema, in its order."""
    required = schema.get("required", [])
    found = []
    for name, inner in schema.get("properties", {}).items():
        resolved = resolve(inner, schema.get("$defs", {}))
        found.append(Field(name, resolved, name in required, resolved.get("default", MISSING)))
    return found


def resolve(schema: Any, definitions: Schema, _depth: int = 0) -> Schema:
    """The schema with what it refers to in its place; what refers to itself ends as anything."""
    if not isinstance(schema, Mapping) or _depth > DEPTH:
        return {}
    if isinstance(reference := schema.get("$ref"), str):
        meant = definitions.get(reference.rsplit("/", 1)[-1], {})
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return {**resolve(meant, definitions, _depth + 1), **beside}
    resolved = dict(schema)
    for key in ("items", "additionalProperties"):
        if isinstance(inner := resolved.get(key), Mapping):
            resolved[key] = resolve(inner, definitions, _depth + 1)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if isinstance(inner := resolved.get(key), list):
            resolved[key] = [resolve(each, definitions, _depth + 1) for each in inner]
    if isinstance(inner := resolved.get("properties"), Mapping):
        resolved["properties"] = {
            name: resolve(each, definitions, _depth + 1) for name, each in inner.items()
        }
    return resolved


def is_file(schema: Schema) -> bool:
    """Whether a value is a file: its bytes travel beside the call."""
    return FILE_FIELDS.issubset(schema.get("properties", {}))


def is_files(schema: Schema) -> bool:
    """Whether a value is a list of files."""
    return schema.get("type") == "array" and is_file(schema.get("items", {}))


def alternatives(schema: Schema) -> list[Schema]:
    """The schemas of which a value has to satisfy one; itself if that is one only."""
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(inner := schema.get(key), list) and inner:
            return [found for each in inner for found in alternatives(each)]
    return [schema]


def types(schema: Schema) -> set[str]:
    """The JSON types that a value may have; empty for any."""
    found: set[str] = set()
    for each in alternatives(schema):
        named = each.get("type")
        if "enum" in each or "const" in each:
            values = each.get("enum", [each.get("const")])
            found |= {_type_name(value) for value in values}
        elif isinstance(named, str):
            found.add(named)
        elif isinstance(named, list):
            found |= set(named)
        else:
            return set()
    return found


_NAMES = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    type(None): "null",
    list: "array",
    dict: "object",
}


def _type_name(value: object) -> str:
    return _NAMES.get(type(value), "string")


def type_of(schema: Schema) -> str:
    """What a value may be, in a few words."""
    return " | ".join(dict.fromkeys(_one_type(each) for each in alternatives(schema)))


def _one_type(schema: Schema) -> str:
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if is_file(schema):
        return "file"
    named = schema.get("type", "any")
    if named == "array":
        return f"[{type_of(schema['items'])}]" if schema.get("items") else "[any]"
    if named == "string" and "format" in schema:
        return str(schema["format"])
    return " | ".join(named) if isinstance(named, list) else str(named)


def limits_of(schema: Schema) -> str:
    """The limits of a number, in a few words; empty where there are none but those of integers."""
    limits = [
        f"{words} {json.dumps(each[key])}"
        for each in alternatives(schema)
        for key, (words, _) in LIMITS.items()
        if key in each and abs(each[key]) < LARGEST_INTEGER
    ]
    return ", ".join(dict.fromkeys(limits))


def signature(method: str, args: Schema) -> str:
    """A method with its arguments, as one would write it in Python."""
    return f"{method}({', '.join(map(str, fields(args)))})"
