"""Plugging, unplugging and listing boards, and having something wrong with them."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from icebus.rack.cli.directory import DIRECTORY, Directory, serials_of
from icebus.rack.emulator.parts import find_parts
from icebus.rack.layout import add_board
from icebus.rack.lock import is_running
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import (
    FIRMWARE,
    Fault,
    RackBoard,
    RackFile,
    edit_rack_file,
    read_boards,
    read_rack_file,
)
from icebus.schemas.errors import FirmwareUnknown, UnknownDevice


class Output(StrEnum):
    """Form of a list."""

    TABLE = "table"
    JSON = "json"


def plug(
    directory: Directory = DIRECTORY,
    port: Annotated[
        str | None,
        typer.Option(help="USB port path, such as 1-1.2.", show_default="the first free one"),
    ] = None,
    serial: Annotated[
        str | None,
        typer.Option(
            help="The board's serial.", show_default="made from the rack's id and the port"
        ),
    ] = None,
    chip: Annotated[Chip, typer.Option(help="The board's chip.")] = Chip.RP2040,
    firmware: Annotated[str, typer.Option(help="What is in its flash.")] = FIRMWARE,
    emulated: Annotated[bool, typer.Option("--emulated", help="Emulate its chip.")] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Makes the serial repeatable.", show_default="the serial is the rack's own"
        ),
    ] = None,
) -> None:
    """Plug one more board; prints its port and serial."""
    if emulated:
        find_parts()
    _check_firmware(firmware)
    serials = serials_of(directory, seed)
    rack = edit_rack_file(
        directory,
        lambda rack: add_board(rack, chip, firmware, serials, port, serial, emulated=emulated),
    )
    board = rack.boards[-1]
    typer.echo(f"{board.port} {board.serial}")
    _hint_if_stopped(directory)


def _check_firmware(name: str) -> None:
    from icebus.rack.firmware import installed_firmware

    known = sorted(installed_firmware())
    if name not in known:
        raise FirmwareUnknown(f"no firmware {name!r} here; there are {', '.join(known)}")


def unplug(
    board: Annotated[str, typer.Argument(metavar="PORT|SERIAL", help="Which board.")],
    directory: Directory = DIRECTORY,
) -> None:
    """Unplug a board."""

    def without(rack: RackFile) -> RackFile:
        _check_plugged(rack, board)
        return RackFile(boards=tuple(b for b in rack.boards if board not in (b.port, b.serial)))

    edit_rack_file(directory, without)
    _hint_if_stopped(directory)


def fault(
    board: Annotated[str, typer.Argument(metavar="PORT|SERIAL", help="Which board.")],
    fault: Annotated[
        Fault | None,
        typer.Argument(help="What is wrong with it from now on.", show_default="nothing any more"),
    ] = None,
    directory: Directory = DIRECTORY,
) -> None:
    """Have something wrong with a board, to see what becomes of it; leave out FAULT to end it.

    hang: the chip stands still. wedge: so, until it is reset. stall: it takes half a bitstream.
    babble: it talks without end. garbage: it says random bytes. misreport: its reports can't be
    understood. bootloader: it starts nothing else. Emulated boards can only hang, and start their
    bootloader.
    """

    def with_fault(rack: RackFile) -> RackFile:
        _check_plugged(rack, board)
        return RackFile(
            boards=tuple(
                RackBoard(**{**dict(b), "fault": fault}) if board in (b.port, b.serial) else b
                for b in rack.boards
            )
        )

    edit_rack_file(directory, with_fault)
    _hint_if_stopped(directory)


def list_boards(
    directory: Directory = DIRECTORY,
    output: Annotated[Output, typer.Option("--output", "-o", help="Form.")] = Output.TABLE,
) -> None:
    """List the plugged boards and what runs on them now."""
    rack = read_rack_file(directory) or RackFile()
    present = {board.port: board for board in read_boards(directory)}
    rows = []
    for spec in rack.boards:
        device = present.get(spec.port)
        rows.append(
            {
                "port": spec.port,
                "serial": spec.serial,
                "chip": spec.chip.value + (" (emulated)" if spec.emulated else ""),
                "state": device.mode.value if device else "absent",
                "fault": spec.fault.value if spec.fault else None,
                "usb": f"{device.vid:04x}:{device.pid:04x}" if device else None,
                "usb_serial": device.serial if device else None,
                "folder": str(directory / spec.port) if device else None,
            }
        )
    if output is Output.JSON:
        typer.echo(json.dumps(rows, indent=2))
        return
    columns = ("port", "serial", "chip", "state", "fault", "usb", "folder")
    table = [[name.upper() for name in columns]]
    table += [[str(row[key] or "-") for key in columns] for row in rows]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        typer.echo("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())
    _hint_if_stopped(directory)


def _check_plugged(rack: RackFile, board: str) -> None:
    if not any(board in (b.port, b.serial) for b in rack.boards):
        known = ", ".join(b.port for b in rack.boards) or "none"
        raise UnknownDevice(f"No board {board!r} is plugged; ports with boards: {known}.")


def _hint_if_stopped(directory: Path) -> None:
    if not is_running(directory):
        typer.echo(f"No rack runs in {directory}: icebus-rack run -d {directory}", err=True)
