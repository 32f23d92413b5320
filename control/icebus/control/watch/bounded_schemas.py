"""Checking values against JSON Schemas of workers, in bounded time whatever these say.

A schema of some hundred bytes can take for ever: references that double at each step, recursion,
regular expressions that backtrack. All users' requests would wait behind it. What is not checked
here, the worker checks, whose own models are what counts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import islice
from time import monotonic, thread_time
from typing import Annotated, Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from pydantic import Field, TypeAdapter
from pydantic import ValidationError as NoMatch
from pydantic_core import SchemaError as UnreadablePattern
from referencing import Registry

MOST_STEPS = 3_000
"""Keywords of a schema that are followed for one value: some 25 ms. What our kinds are asked with
takes about ten."""

MOST_SECONDS = 0.25
"""Of our own time for one value, for steps that take longer than usual. It is ten times what that
many usual ones take: a collection of garbage and a slow machine count here, too."""

SLOW_FOR = 10.0
"""Seconds in which a schema is not followed again that took too much time, twice in a row."""

LARGEST_SCHEMA = 16 << 10
"""Bytes of a schema as JSON; those of our kinds have some hundred. To see whether it is one at all
takes 5 ms a kilobyte."""

LONGEST_PATTERN = 200
LONGEST_TEXT = 256
MOST_PATTERN_STATES = 2_000
"""Of regular expressions, characters, those of a text, and about how many states it is in at most.
The time is the product of the last two: 24 s were seen for a pattern of 36 characters."""

_Errors = Iterable[ValidationError]
_Keyword = Callable[[Any, Any, Any, Any], Any]


class TooMuchWork(Exception):
    """A schema is too large, or what it says of a value takes too long to follow."""


class _TooSlow(Exception):
    """It took more than `MOST_SECONDS`, for which not the schema alone can be the reason."""


class _Steps:
    """What is left to one check. Control checks on one thread."""

    left = 0
    until = 0.0


def _counted(keyword: _Keyword) -> _Keyword:
    def follow(validator: Any, value: Any, instance: Any, schema: Any) -> _Errors:
        _Steps.left -= 1
        if _Steps.left < 0:
            raise TooMuchWork(f"it takes more than {MOST_STEPS} steps for this")
        if thread_time() > _Steps.until:
            raise _TooSlow
        yield from keyword(validator, value, instance, schema) or ()

    return follow


def _pattern(_validator: Any, pattern: Any, instance: Any, _schema: Any) -> _Errors:
    if isinstance(instance, str) and not _matches(pattern, instance):
        yield ValidationError(f"does not match {pattern!r}")


def _unique(_validator: Any, value: Any, instance: Any, _schema: Any) -> _Errors:
    # By their text, for to compare each with all others takes the square of their number.
    if value is True and isinstance(instance, list):
        different = {json.dumps(item, sort_keys=True) for item in instance}
        if len(different) < len(instance):
            yield ValidationError("has an item twice")


def _additional(validator: Any, value: Any, instance: Any, schema: Any) -> _Errors:
    # With patterns, Python's own regular expressions would be matched, which can take for ever.
    if "patternProperties" not in schema:
        yield from _KEYWORDS["additionalProperties"](validator, value, instance, schema) or ()


def _unchecked(_validator: Any, _value: Any, _instance: Any, _schema: Any) -> _Errors:
    yield from ()


@lru_cache(maxsize=256)
def _reader(pattern: str) -> TypeAdapter[str] | None:
    try:
        return TypeAdapter(Annotated[str, Field(pattern=pattern)])
    except UnreadablePattern:
        return None


def _matches(pattern: str, text: str) -> bool:
    """Whether a text has the pattern. pydantic's are Rust's, whose time is linear.

    True as well for patterns that only Python reads, and for what would take too long.
    """
    if len(text) > LONGEST_TEXT or _states(pattern) > MOST_PATTERN_STATES:
        return True
    reader = _reader(pattern)
    try:
        if reader is not None:
            reader.validate_python(text)
    except NoMatch:
        return False
    return True


def _states(pattern: str) -> float:
    """About how many states matching a pattern has, at most."""
    if len(pattern) > LONGEST_PATTERN:
        return math.inf
    repeated = (int(count) for count in re.findall(r"(\d+)\s*\}", pattern))
    return len(pattern) * math.prod(max(1, each) for each in repeated)


_KEYWORDS: Mapping[str, _Keyword] = Draft202012Validator.VALIDATORS
_BOUNDED = {
    **_KEYWORDS,
    "pattern": _pattern,
    "uniqueItems": _unique,
    "additionalProperties": _additional,
    "patternProperties": _unchecked,
    "unevaluatedProperties": _unchecked,
    "unevaluatedItems": _unchecked,
}
_extend: Callable[..., Any] = extend
_Validator = _extend(
    Draft202012Validator, {name: _counted(keyword) for name, keyword in _BOUNDED.items()}
)


@lru_cache(maxsize=256)
def _check_schema(schema: str) -> None:
    """See whether a text is a schema; of one that was, that is known.

    Raises:
        jsonschema.SchemaError: it is none.
    """
    Draft202012Validator.check_schema(json.loads(schema))


class BoundedSchema:
    """One schema, ready to check values against. For one thread at a time.

    Args:
        schema: of version 2020-12.

    Raises:
        jsonschema.SchemaError: it is none.
        RecursionError: it is nested too deep.
        TooMuchWork: it is too large.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        size = len(json.dumps(schema))
        if size > LARGEST_SCHEMA:
            raise TooMuchWork(f"{size} bytes of schema; at most {LARGEST_SCHEMA} are followed")
        _check_schema(json.dumps(schema))
        # An empty registry: what a worker publishes must not make us fetch anything.
        registry: Registry[Any] = Registry()
        self._validator = _Validator(schema, registry=registry)
        self._followed = False
        self._slow_until = -math.inf

    def errors(self, value: Any, most: int) -> list[ValidationError]:
        """What is wrong with a value, as many mistakes at most.

        Where time runs out, which on a busy machine it may with any schema, it is tried once more.
        If it does again, of a schema that could be followed before nothing is found, and the worker
        decides.

        Raises:
            TooMuchWork: it takes too many steps to find out, or too long with a schema that was
                never followed to its end.
            Exception: the schema refers to what is not there, or to itself for ever.
        """
        if monotonic() >= self._slow_until:
            for _ in range(2):
                try:
                    found = self._follow(value, most)
                except _TooSlow:
                    continue
                self._followed = True
                return found
            self._slow_until = monotonic() + SLOW_FOR
        if self._followed:
            return []
        raise TooMuchWork(f"it takes more than {MOST_SECONDS * 1e3:g} ms for this")

    def _follow(self, value: Any, most: int) -> list[ValidationError]:
        _Steps.left, _Steps.until = MOST_STEPS, thread_time() + MOST_SECONDS
        return list(islice(self._validator.iter_errors(value), most))
