"""What users give us to send, checked before anything is sent: whether JSON can hold it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import JsonValue

from icebus.schemas.errors import InvalidRequest

MAX_NESTING = 100
"""Levels of lists and objects. Readers of JSON, ours among them, follow no more than 200, and a
message has some of its own."""

MAX_INTEGER_BITS = 1024
"""As large as the largest number. Python turns no integer of more than 4300 digits into text."""


def json_object(values: object, name: str) -> dict[str, JsonValue]:
    """A copy of what JSON can hold under names; none at all is an empty one.

    Args:
        values: a mapping whose keys are text.
        name: of the argument, for people.

    Raises:
        InvalidRequest: it is something else, or holds what JSON can't.
    """
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise InvalidRequest(
            f"{name} must be a mapping of names to values, not {_type_name(values)}", argument=name
        )
    return {
        _json_key(key, name): _json_value(value, f"{name}[{_shown(key)}]", 1)
        for key, value in values.items()
    }


def json_text(text: object, name: str) -> str:
    """A text that can be sent.

    Raises:
        InvalidRequest: it is no text, or not all of it are characters, as in the name of a file
            that is not UTF-8.
    """
    if not isinstance(text, str):
        raise InvalidRequest(f"{name} must be text, not {_type_name(text)}", argument=name)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            f"{name}: '{printable(text)}' is not valid Unicode; JSON carries nothing else",
            argument=name,
        ) from None
    return str.__str__(text)


def printable(text: str) -> str:
    """The text, with what is no character written as an escape."""
    return text.encode(errors="backslashreplace").decode()


def _json_value(value: object, name: str, nesting: int) -> JsonValue:
    match value:
        case None | bool():
            return value
        case str():
            return json_text(value, name)
        case int() if value.bit_length() <= MAX_INTEGER_BITS:
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case int():
            problem = f"an integer of more than {MAX_INTEGER_BITS} bits"
        case float():
            problem = f"{value}, which JSON does not have"
        case Mapping() | list() | tuple() if nesting >= MAX_NESTING:
            raise InvalidRequest(
                f"{name.partition('[')[0]}: nested more than {MAX_NESTING} deep",
                argument=name.partition("[")[0],
            )
        case Mapping():
            return {
                _json_key(key, name): _json_value(each, f"{name}[{_shown(key)}]", nesting + 1)
                for key, each in value.items()
            }
        case list() | tuple():
            return [
                _json_value(each, f"{name}[{index}]", nesting + 1)
                for index, each in enumerate(value)
            ]
        case _:
            problem = _type_name(value)
    raise InvalidRequest(
        f"{name}: must be what JSON can hold (text, numbers, true, false, null, lists and objects "
        f"of these), not {problem}",
        argument=name,
    )


def _json_key(key: object, name: str) -> str:
    return json_text(key, f"a key of {name}")


def _shown(key: object) -> str:
    return printable(repr(key))


def _type_name(value: object) -> str:
    cls = type(value)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"
