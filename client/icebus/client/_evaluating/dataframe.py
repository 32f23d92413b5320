"""Outcomes as a table of pandas: a row for each, also for failures, without the bitstreams."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from icebus.client._evaluating.outcomes import EvaluationsFailed
from icebus.client._evaluating.summary import Summary
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.measuring import Failure, Outcome, Result
from icebus.schemas.programs.installation import not_importable

if TYPE_CHECKING:
    import pandas

log = logging.getLogger(__name__)

ANNOTATION = "annotations."
"""Before the name of an annotation that is called like something else in the table."""

Row = dict[str, Any]

_FIRST = ("bitstream", "serial")
_LAST = ("at", "upload", "window", "sha256", "evaluation", "batch")


def to_dataframe(outcomes: Iterable[Result | Failure | Summary]) -> pandas.DataFrame:
    """A table with a row for each outcome; it needs pandas.

    >>> frame = to_dataframe(boards.map_outcomes(bitstreams))  # doctest: +SKIP
    >>> frame.groupby("bitstream").pulses.median()  # doctest: +SKIP

    Columns are what a result says, each value of a field with several by its name, such as
    ``pin_pulses.27``, and each annotation by its name, after ``annotations.`` if another column is
    called so. ``at`` is in UTC. A failure has its code in ``error`` and why in ``message``, and no
    values. What was given for a bitstream, ``source``, is left out, and so are its bytes.

    Args:
        outcomes: results and failures, in a list or as they come from ``evaluate_outcomes`` and the
            like; where ``evaluate`` or ``map`` ends with :class:`EvaluationsFailed`, the failures
            that it lists are rows. Or what :func:`summarise` makes of repeats: a row for each
            bitstream, with ``n``, ``median`` and ``spread``.

    Raises:
        ProgramMissing: pandas is not installed; the message has the command that installs it.
        InvalidRequest: something among them is no outcome.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise not_importable(error, "a table of results") from None
    rows = rows_of(outcomes)
    columns = {name: [row.get(name) for row in rows] for name in _columns(rows)}
    frame = pd.DataFrame(
        {
            name: values if (dtype := _dtype(values)) is None else pd.array(values, dtype)
            for name, values in columns.items()
        }
    )
    if "at" in frame:
        frame["at"] = pd.to_datetime(frame["at"], utc=True)
    return frame


def rows_of(outcomes: Iterable[Result | Failure | Summary]) -> list[Row]:
    """A row for each outcome, by the names of the columns that it has.

    Raises:
        InvalidRequest: something among them is no outcome.
    """
    told = list(_until_failed(outcomes))
    reserved = set[str](_FIRST + _LAST + ("error", "message"))
    values = [_values(each) for each in told]
    for each in values:
        reserved.update(each)
    return [
        row | _annotations(each.annotations, reserved) if isinstance(each, Outcome) else row
        for each, row in zip(told, values, strict=True)
    ]


def _until_failed(outcomes: Iterable[Any]) -> Iterator[Any]:
    if hasattr(outcomes, "__aiter__"):
        raise InvalidRequest(
            "a table is made of outcomes that are there: take them first, as in "
            "[each async for each in boards.evaluate_outcomes(…)]"
        )
    if isinstance(outcomes, (Outcome, Summary, str, bytes)) or not isinstance(outcomes, Iterable):
        raise InvalidRequest(
            f"a table is made of a list of results, or of what evaluate_outcomes yields; this is "
            f"{type(outcomes).__name__}"
        )
    try:
        yield from outcomes
    except EvaluationsFailed as error:
        yield from error.failures
        if (rest := error.details["failed"] - len(error.failures)) > 0:
            log.warning("%s more evaluations failed, which are not in the table", rest)


def _values(outcome: Any) -> Row:
    match outcome:
        case Failure():
            return {**_common(outcome), "error": outcome.error.code, "message": str(outcome.error)}
        case Result():
            own = {name: value for name, value in outcome if name not in Outcome.model_fields}
            return {**_common(outcome), **_flat(own)}
        case Summary():
            names = ("bitstream", "sha256", "serial", "n", "median", "spread", "failures")
            return {name: getattr(outcome, name) for name in names}
    raise InvalidRequest(f"{type(outcome).__name__} is no result, failure or summary")


def _common(outcome: Outcome) -> Row:
    names = (*_FIRST, "at", "sha256", "evaluation", "batch")
    return {name: getattr(outcome, name) for name in names}


def _flat(values: Mapping[str, Any]) -> Row:
    """Values by name, those of objects each by a name of its own."""
    flat: Row = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": each for key, each in value.items()}
        else:
            flat[name] = value
    return flat


def _annotations(annotations: Mapping[str, Any], reserved: set[str]) -> Row:
    named: Row = {}
    for name, value in annotations.items():
        called = name
        while called in reserved or called in named:
            called = ANNOTATION + called
        named[called] = value
    return named


def _columns(rows: list[Row]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row)
    told = [name for name in names if name not in _FIRST + _LAST]
    return [*_FIRST, *told, *(name for name in _LAST if name in names or not rows)]


def _dtype(values: list[Any]) -> str | None:
    """The type of a column with gaps, where the usual one would make floats of its numbers."""
    known = [each for each in values if each is not None]
    if not known or len(known) == len(values):
        return None
    if all(isinstance(each, bool) for each in known):
        return "boolean"
    whole = all(isinstance(each, int) and not isinstance(each, bool) for each in known)
    return "Int64" if whole and all(-(2**63) <= each < 2**63 for each in known) else None
