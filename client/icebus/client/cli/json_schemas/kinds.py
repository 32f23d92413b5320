"""What the schemas that workers publish say of a kind that measures: its columns and arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from icebus.client.cli.json_schemas.signatures import NUMERIC, Field, Schema, fields, resolve, types
from icebus.client.cli.output.printing import Column, Row

if TYPE_CHECKING:
    from icebus.client._client import Client
    from icebus.schemas.components import KindInfo

IN_TABLES = "table"
"""Keyword of a field's schema: false where it is for programs only, ``told`` for one that is shown
where some result tells it, ``several`` where some result has more than one value in it."""

MEASUREMENT_ARGUMENT = "args"
"""The argument of ``evaluate`` that has what a measurement takes."""

NUMBERS = NUMERIC | {"null"}


def measuring_kind(kinds: Mapping[str, KindInfo], kind: str) -> KindInfo:
    """A kind that measures files, as workers offer it.

    Raises:
        UnknownKind: nobody offers it.
        InvalidRequest: it measures none.
    """
    from icebus.client._farm.offers import find_kind, measures
    from icebus.schemas.errors import InvalidRequest

    info = find_kind(kinds, kind)
    if not measures(info):
        names = ", ".join(sorted(name for name, each in kinds.items() if measures(each)))
        raise InvalidRequest(
            f"kind {kind} measures no bitstreams; {f'{names} can' if names else 'no kind does'}; "
            "`icebus call` calls methods of any kind"
        )
    return info


def reservation_args(kind: str, info: KindInfo, words: Sequence[str]) -> dict[str, Any]:
    """What a reservation of the kind asks for, from ``name=value``.

    Raises:
        InvalidRequest: the kind takes no such thing.
    """
    from icebus.client.cli.json_schemas.arguments import parse_named
    from icebus.schemas.errors import InvalidRequest

    names = {word.partition("=")[0] for word in words}
    elsewhere = names & set(measurement_schema(info).get("properties", {}))
    if elsewhere - set(info.args.get("properties", {})):
        raise InvalidRequest(
            f"{' and '.join(sorted(elsewhere))} of kind {kind} is said for each measurement: "
            "with `--measure` of `icebus evaluate` and `icebus map`, not with `--arg`"
        )
    return parse_named(words, f"a reservation for {kind}", info.args)


def offered_reservation_args(
    client: Client, kind: str, words: Sequence[str] | None
) -> dict[str, Any]:
    """Likewise, of a kind that the farm's workers offer; nobody is asked where nothing is said.

    Raises:
        UnknownKind: nobody offers it.
        InvalidRequest: the kind takes no such thing.
    """
    from icebus.client._farm.offers import find_kind

    return reservation_args(kind, find_kind(client.kinds(), kind), words) if words else {}


def measurement_args(kind: str, info: KindInfo, words: Sequence[str]) -> dict[str, Any]:
    """What a measurement of the kind takes, from ``name=value``.

    Raises:
        InvalidRequest: the kind takes no such thing.
    """
    from icebus.client.cli.json_schemas.arguments import parse_named

    return parse_named(words, f"a measurement of {kind}", measurement_schema(info))


def measurement_schema(info: KindInfo) -> Schema:
    """The schema of what a measurement takes; an empty one where it takes nothing."""
    evaluate = info.methods["evaluate"].args
    args = evaluate.get("properties", {}).get(MEASUREMENT_ARGUMENT, {})
    return resolve(args, evaluate.get("$defs", {}))


def measured_fields(info: KindInfo | None) -> list[Field]:
    """What results of a kind tell beside what all results do; nothing for a kind nobody offers."""
    from icebus.schemas.measuring import Result

    if info is None or (event := info.events.get("results")) is None:
        return []
    return [field for field in fields(event.data) if field.name not in Result.model_fields]


def columns(measured: Sequence[Field], rows: Sequence[Row] = ()) -> list[Column]:
    """The columns of a table of these results."""
    shown = [
        field
        for field in measured
        if _is_shown(field.schema.get(IN_TABLES, True), [row.get(field.name) for row in rows])
    ]
    return [
        Column("bitstream"),
        Column("serial"),
        *(
            Column(field.name, right=_is_number(field), minor=place)
            for place, field in enumerate(shown)
        ),
    ]


def _is_shown(when: object, values: Sequence[Any]) -> bool:
    match when:
        case "told":
            return any(value is not None for value in values)
        case "several":
            return any(isinstance(value, (Mapping, list)) and len(value) > 1 for value in values)
    return bool(when)


def _is_number(field: Field) -> bool:
    return bool(allowed := types(field.schema)) and allowed <= NUMBERS
