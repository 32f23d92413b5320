"""``icebus transfer``, ``accept`` and ``decline``: reservations that change hands."""

from __future__ import annotations

from typing import Annotated

import typer

from icebus.client.cli.connecting import connect
from icebus.client.cli.durations import show_until
from icebus.client.cli.options.completion import complete_offer, complete_reservation, complete_user
from icebus.client.cli.options.shared_options import duration as duration_of
from icebus.client.cli.output.printing import print_line, print_message

Offered = Annotated[
    str,
    typer.Argument(
        metavar="RESERVATION",
        help="That is offered to you; `icebus reservations` lists it.",
        autocompletion=complete_offer,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(transfer)
    app.command()(accept)
    app.command()(decline)


def transfer(
    reservation: Annotated[
        str, typer.Argument(help="A reservation of yours.", autocompletion=complete_reservation)
    ],
    user: Annotated[
        str | None,
        typer.Argument(help="Who is to have it.", autocompletion=complete_user, show_default=False),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            parser=duration_of,
            metavar="DURATION",
            help="How long the offer stands. (default: 1h)",
            show_default=False,
        ),
    ] = 3600.0,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Take the offer back.")] = False,
) -> None:
    """Offer a reservation to another user, whose it is once they accept.

    Until then it is yours, and counts for you. It lasts as long as before, and is theirs to extend.

    Examples:
      icebus transfer 5f1c2e9a7b3d4c60 ben
      icebus transfer 5f1c2e9a7b3d4c60 --withdraw
    """
    if (user is None) != withdraw:
        raise typer.BadParameter("give either who is to have it, or --withdraw")
    with connect() as client:
        document = client.transfer(reservation, user, wait=wait)
    if document.offer is None:
        print_line(f"{reservation} offered to nobody")
        return
    print_line(f"{reservation} offered to {document.offer.to}")
    left = show_until(document.offer.until)
    print_message(
        f"It is yours until they say `icebus accept {reservation}`, for which they have {left}."
    )


def accept(reservation: Offered) -> None:
    """Take a reservation that another user offers to you.

    Examples:
      icebus accept 5f1c2e9a7b3d4c60
    """
    with connect() as client:
        client.accept(reservation, keep_alive=False, ready=False)
    print_line(f"{reservation} accepted")


def decline(reservation: Offered) -> None:
    """Leave a reservation that another user offers to you with them.

    Examples:
      icebus decline 5f1c2e9a7b3d4c60
    """
    with connect() as client:
        client.decline(reservation)
    print_line(f"{reservation} declined")
