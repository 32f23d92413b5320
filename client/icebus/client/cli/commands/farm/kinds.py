"""``icebus kinds``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icebus.client.cli.connecting import survey_farm
from icebus.client.cli.json_schemas.kinds import measurement_schema
from icebus.client.cli.json_schemas.signatures import (
    MISSING,
    Schema,
    fields,
    limits_of,
    resolve,
    signature,
    type_of,
)
from icebus.client.cli.options.completion import complete_kind
from icebus.client.cli.options.shared_options import Output
from icebus.client.cli.output.printing import (
    Column,
    Format,
    aligned,
    print_line,
    print_message,
    print_rows,
)

if TYPE_CHECKING:
    from icebus.client._farm.offers import Offer

FIELDS = ("kind", "workers", "firmware", "methods", "events", "args", "description")
"""Fields of a kind in their order; what workers publish beyond these stands behind."""

MINOR = {"events": 4, "methods": 3, "description": 2, "firmware": 1}
"""What a narrow terminal leaves out first: `icebus kinds KIND` tells all of it."""

PARTS = ("kind", "workers", "part", "name", "field", "type", "required", "default", "description")
"""Fields of a kind's parts as CSV."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(kinds)


def kinds(
    kind: Annotated[
        str | None,
        typer.Argument(help="Describe this one.", autocompletion=complete_kind),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """List what boards can be reserved for; of a KIND, its arguments, methods and events.

    RESERVE and MEASURE list what --arg and --measure of other commands take.

    JSON has the JSON Schemas as the workers publish them.

    Examples:
      icebus kinds
      icebus kinds pulsecount
      icebus kinds pulsecount -o json | jq '.[0].methods.evaluate.args'
    """
    from icebus.client._farm.offers import find, merge
    from icebus.schemas.components import KindInfo
    from icebus.schemas.topics import WORKER_KINDS

    offers = merge(survey_farm(WORKER_KINDS).kinds)
    if kind is not None:
        offers = find(offers, kind)
    if output is Format.NAME and kind is not None:
        for name in dict.fromkeys(name for offer in offers for name in sorted(offer.info.methods)):
            print_line(name)
    elif output is Format.TABLE and kind is not None:
        print_line("\n\n".join(describe(offer) for offer in offers))
    elif output is Format.CSV and kind is not None:
        parts = [part for offer in offers for part in parts_of(offer)]
        print_rows(parts, [], output, "kind", PARTS)
    else:
        rows = [_row(offer) for offer in offers]
        columns = [Column(each, minor=MINOR.get(each, 0)) for each in FIELDS if each != "args"]
        shown = rows if output is not Format.TABLE else [_for_people(row) for row in rows]
        print_rows(
            shown, columns, output, "kind", list(dict.fromkeys([*FIELDS, *KindInfo.model_fields]))
        )
    _print_differences(offers)
    if not offers:
        print_message("No worker offers anything. `icebus workers` lists them.")


def _print_differences(offers: list[Offer]) -> None:
    forms: dict[str, list[str]] = {}
    for offer in offers:
        forms.setdefault(offer.kind, []).append(" ".join(offer.workers))
    for kind, workers in forms.items():
        if len(workers) > 1:
            print_message(
                f"Workers differ in {kind}: {' | '.join(workers)}. Are they of one version?"
            )


def _row(offer: Offer) -> dict[str, Any]:
    return {"kind": offer.kind, "workers": offer.workers, **offer.info.model_dump(mode="json")}


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    first, *_ = row["description"].split("\n")
    return row | {
        "firmware": [row["firmware"], *row["other_firmware"]],
        "methods": list(row["methods"]),
        "events": list(row["events"]),
        "description": first,
    }


def describe(offer: Offer) -> str:
    """A kind for people: what it is for, and how its methods are called."""
    from icebus.client._farm.offers import measures

    info = offer.info
    on = f"on {' '.join(offer.workers)}, firmware {' or '.join(info.all_firmware)}"
    blocks = [f"{offer.kind}: {on}\n{_indented(info.description)}"]
    blocks.append(_arguments("RESERVE", "--arg", info.args))
    if measures(info):
        blocks.append(_arguments("MEASURE", "--measure", measurement_schema(info)))
    for name, method in sorted(info.methods.items()):
        answer = resolve(method.returns, method.returns.get("$defs", {}))
        returns = _fields(method.returns) or f"  {type_of(answer)}"
        blocks.append(
            f"METHOD {signature(name, method.args)}\n{_indented(method.description)}"
            + _after("\n\n", _fields(method.args, arguments=True))
            + f"\n  answer:\n{_indented(returns)}"
        )
    for name, event in sorted(info.events.items()):
        blocks.append(f"EVENT {name}\n{_indented(event.description)}\n{_fields(event.data)}")
    return "\n\n".join(block.rstrip() for block in blocks)


def _arguments(heading: str, option: str, schema: Schema) -> str:
    """What is given as ``name=value`` with an option of the command line."""
    rows = _fields(schema, arguments=True)
    return f"{heading} with {option} NAME=VALUE\n{rows}" if rows else f"{heading}\n  no arguments"


def _after(before: str, text: str) -> str:
    return before + text if text else ""


def _indented(text: str) -> str:
    """Lines moved in, and what is code marked as these texts do."""
    return "\n".join(f"  {line}".rstrip() for line in text.replace("``", "`").split("\n"))


def _fields(schema: Schema, *, arguments: bool = False) -> str:
    """The fields of an object as lines that line up; of arguments, what one has to give."""
    rows = [
        [
            each.name,
            type_of(each.schema),
            "required" if each.required and arguments else _default(each.default),
            limits_of(each.schema) if arguments else "",
            each.description,
        ]
        for each in fields(schema)
    ]
    return _indented(aligned(rows)) if rows else ""


def _default(value: Any) -> str:
    return "" if value is MISSING else f"= {json.dumps(value)}"


def parts_of(offer: Offer) -> list[dict[str, Any]]:
    """A kind as rows: each field of what a reservation, its methods and its events have."""
    from icebus.client._farm.offers import measures

    info = offer.info
    schemas: list[tuple[str, str, Schema]] = [("reserve", "", info.args)]
    if measures(info):
        schemas.append(("measure", "", measurement_schema(info)))
    for name, method in sorted(info.methods.items()):
        schemas += [("method", name, method.args), ("answer", name, method.returns)]
    schemas += [("event", name, event.data) for name, event in sorted(info.events.items())]
    return [
        {
            "kind": offer.kind,
            "workers": offer.workers,
            "part": part,
            "name": name,
            "field": each.name,
            "type": type_of(each.schema),
            "required": each.required,
            "default": None if each.default is MISSING else each.default,
            "description": each.description,
        }
        for part, name, schema in schemas
        for each in fields(schema)
    ]
