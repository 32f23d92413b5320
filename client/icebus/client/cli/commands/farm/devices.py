"""``icebus devices`` and ``icebus available``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from icebus.client.cli.commands.farm.device_rows import FIELDS, as_row, columns_for, shown
from icebus.client.cli.connecting import connect
from icebus.client.cli.options.completion import complete_serial
from icebus.client.cli.options.shared_options import KIND, Kind, Output, Selector
from icebus.client.cli.output.printing import (
    CsvPrinter,
    Format,
    print_json,
    print_line,
    print_message,
    print_rows,
)
from icebus.schemas.wording import counted

if TYPE_CHECKING:
    from icebus.schemas.operations.reservations import KnownDevice


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(devices)
    app.command()(available)


def devices(
    serials: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SERIAL]...",
            help="Tell all about these. (default: list all devices)",
            show_default=False,
            autocompletion=complete_serial,
        ),
    ] = None,
    selector: Selector = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            "-w",
            help="Go on until Ctrl-C: the table as it changes; elsewhere than on a terminal, and "
            "with -o jsonl or csv, each device as it is and then what changes.",
        ),
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """List the devices of the farm: what they do, why some don't, and who holds them.

    Of devices that are named all is told that is known: also until when they are held, which
    firmware they run, and the last of their history.

    Examples:
      icebus devices
      icebus devices -l rack=b,!virtual
      icebus devices -o json | jq '.[] | select(.state == "broken")'
      icebus devices 70B3D5A1
      icebus devices --watch
    """
    from icebus.schemas.selectors import parse

    wanted = parse(selector or "")
    if watch:
        from icebus.client.cli.commands.farm.device_watch import watch_devices
        from icebus.schemas.ids import meant

        if output not in (Format.TABLE, Format.JSONL, Format.CSV):
            raise typer.BadParameter(f"--watch has no end, which {output} needs: give -o jsonl")

        def is_wanted(device: KnownDevice) -> bool:
            named = meant(serials or [], [device.report.serial])
            return wanted.matches(device.labels) and (not named or device.report.serial in named)

        watch_devices(is_wanted, output)
    elif serials:
        from icebus.client.cli.commands.farm.device_details import chosen_devices, print_details

        with connect() as client:
            chosen = chosen_devices(client.devices(), serials)
            print_details(client, [each for each in chosen if wanted.matches(each.labels)], output)
    else:
        _list(selector, output)


def _list(selector: str | None, output: Format) -> None:
    from icebus.schemas.selectors import parse

    wanted = parse(selector or "")
    with connect() as client:
        rows = [as_row(device) for device in client.devices() if wanted.matches(device.labels)]
    told = [shown(row) for row in rows] if output is Format.TABLE else rows
    print_rows(told, columns_for(told), output, "serial", FIELDS)
    claimed = [row for row in rows if row["claimed_by"]]
    if claimed:
        print_message(
            f"{counted(len(claimed), 'board')} claimed by more than one worker: what the worker "
            "shown says counts. `icebus doctor` says what to do."
        )
    if not rows:
        print_message(
            f"No device is {selector}. `icebus devices -o json` has all labels."
            if selector
            else "No devices. `icebus doctor` says why."
        )


def available(kind: Kind = KIND, selector: Selector = None, output: Output = Format.TABLE) -> None:
    """Tell how many devices a reservation could have now.

    Examples:
      icebus available
      icebus available -l chip=rp2040
      icebus available -o name | head -1 | xargs icebus reserve --serial
    """
    with connect() as client:
        serials = client.available(kind, selector)
    match output:
        case Format.TABLE:
            print_line(f"{len(serials)} available for {kind}")
        case Format.JSON:
            print_json({"kind": kind, "available": len(serials), "serials": serials}, indent=2)
        case Format.JSONL:
            print_json({"kind": kind, "available": len(serials), "serials": serials})
        case Format.CSV:
            printer = CsvPrinter(["serial"])
            for serial in serials:
                printer.row({"serial": serial})
        case Format.NAME:
            for serial in serials:
                print_line(serial)
