"""``icebus reboot``."""

from __future__ import annotations

from typing import Annotated

import typer

from icebus.client.cli.commands.reserving.reservations import (
    chosen_reservation,
    holding_reservation,
)
from icebus.client.cli.connecting import connect
from icebus.client.cli.options.completion import complete_held_serial
from icebus.client.cli.options.shared_options import ReservationId
from icebus.client.cli.options.shared_options import duration as duration_of
from icebus.client.cli.output.printing import print_line


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(reboot)


def reboot(
    serials: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SERIAL]...",
            help="Boards that you hold. (default: all of the reservation)",
            show_default=False,
            autocompletion=complete_held_serial,
        ),
    ] = None,
    reservation: ReservationId = None,
    wait: Annotated[bool, typer.Option(help="Wait until they are ready again.")] = True,
    timeout: Annotated[
        float,
        typer.Option(
            parser=duration_of,
            metavar="DURATION",
            help="How long that may take. (default: 3m)",
            show_default=False,
        ),
    ] = 180.0,
) -> None:
    """Restart boards that you hold; you keep them. What they measure fails.

    Without boards it is all of the reservation, which must be named if you hold several.

    Examples:
      icebus reboot
      icebus reboot 70B3D5A1 70B3D5A2
    """
    with connect() as client:
        named: dict[str, list[str]] = {}
        if not serials:
            named[chosen_reservation(client, reservation).id] = []
        for serial in serials or ():
            holder = reservation or holding_reservation(client, serial).id
            named.setdefault(holder, []).append(serial)
        for name, boards in named.items():
            held = client.attach(name, take_over=False, ready=False)
            wanted = [held.device(each).serial for each in boards] or held.serials
            held.reboot(wanted, ready=wait, timeout=timeout)
            for serial in wanted:
                print_line(f"{serial} {'rebooted' if wait else 'will be rebooted'}")
