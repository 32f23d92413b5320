"""``icebus admin``: what administrators do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from icebus.client.cli.connecting import FARM
from icebus.client.cli.options.completion import (
    complete_any_reservation,
    complete_serial,
    complete_worker,
)
from icebus.client.cli.output.printing import print_line, print_message
from icebus.schemas.wording import counted, said_of

if TYPE_CHECKING:
    from icebus.client._admin import Admin

app = typer.Typer(
    no_args_is_help=True,
    help="""Look after a farm, as one of its administrators; users are refused.

    Everything stands in `icebus history`, with who did it and the reason given. On this machine's
    own farm the administrator is `icebus --farm admin admin …`.
    """,
)

Serials = Annotated[list[str], typer.Argument(help="Boards.", autocompletion=complete_serial)]
Workers = Annotated[
    list[str],
    typer.Argument(metavar="WORKER...", help="Workers.", autocompletion=complete_worker),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for users and the history.")]


def add_to(parent: typer.Typer) -> None:
    """Register the commands."""
    of_boards = (end, reboot, reflash, quarantine, unquarantine, forget, move)
    of_workers = (drain, undrain, retire)
    for command in (*of_boards, *of_workers):
        app.command()(command)
    parent.add_typer(app, name="admin", rich_help_panel="Farm")


def end(
    reservations: Annotated[
        list[str],
        typer.Argument(help="Anybody's.", autocompletion=complete_any_reservation),
    ],
    reason: Reason = "",
    yes: Yes = False,
) -> None:
    """End reservations, whoever's they are. On a terminal it asks before.

    One that can't be ended keeps no other from it.

    Examples:
      icebus admin end 5f1c2e9a7b3d4c60 --reason "maintenance at noon" --yes
    """
    _ask("End", reservations, yes=yes)
    with _connect() as admin:

        def end_one(name: str) -> None:
            print_line(f"{name} of {admin.end(name, reason).user} ended")

        _each(reservations, end_one)


def reboot(serials: Serials, reason: Reason = "", yes: Yes = False) -> None:
    """Restart boards. What they measure fails; who holds them keeps them. On a terminal it asks.

    Examples:
      icebus admin reboot 70B3D5A1
    """
    _ask("Reboot", serials, yes=yes)
    _change(lambda admin, one: admin.reboot(one, reason), serials, "will be rebooted")


def reflash(serials: Serials, reason: Reason = "", yes: Yes = False) -> None:
    """Write boards' firmware anew. What they measure fails; who holds them keeps them.

    On a terminal it asks before.

    Examples:
      icebus admin reflash 70B3D5A1 70B3D5A2
    """
    _ask("Reflash", serials, yes=yes)
    _change(lambda admin, one: admin.reflash(one, reason), serials, "will be reflashed")


def quarantine(
    serials: Serials,
    reason: Annotated[str, typer.Option("--reason", help="Why, for users and the history.")],
    yes: Yes = False,
) -> None:
    """Give boards to nobody until told otherwise. Who holds them loses them. On a terminal it asks.

    Examples:
      icebus admin quarantine 70B3D5A1 --reason "loose USB socket"
    """
    _ask("Quarantine", serials, yes=yes)
    _change(lambda admin, one: admin.quarantine(one, reason), serials, "quarantined")


def unquarantine(serials: Serials, reason: Reason = "", _yes: Yes = False) -> None:
    """Let boards be reserved again. It does nobody any harm, and never asks.

    Examples:
      icebus admin unquarantine 70B3D5A1 --reason soldered
    """
    _change(lambda admin, one: admin.unquarantine(one, reason), serials, "may be reserved again")


def forget(
    serials: Serials,
    reason: Reason = "",
    yes: Yes = False,
) -> None:
    """Drop boards that are gone for good. One that comes back is known anew, not quarantined.

    Examples:
      icebus admin forget 70B3D5A1 --yes
    """
    _confirm(f"Forget {' '.join(serials)}?", "forget", yes=yes)
    _change(lambda admin, one: admin.forget(one, reason), serials, "forgotten")


def move(
    serials: Serials,
    to: Annotated[
        str,
        typer.Option("--to", help="The worker that has them.", autocompletion=complete_worker),
    ],
    reason: Reason = "",
    _yes: Yes = False,
) -> None:
    """Have boards belong to another worker, which says that it has them. Who holds them keeps them.

    A board that two workers claim stays its owner's for as long as that has it: see `icebus
    devices`. One that is unplugged here and plugged in there moves by itself.

    Examples:
      icebus admin move 70B3D5A1 --to bench2 --reason "bench1 is broken"
    """
    _change(lambda admin, one: admin.move(one, to, reason), serials, f"belongs to {to}")


def drain(workers: Workers, reason: Reason = "", _yes: Yes = False) -> None:
    """Let workers finish their reservations and give them no new ones. It never asks.

    Examples:
      icebus admin drain local --reason "new kernel"
      icebus admin drain bench1 bench2
    """
    with _connect() as admin:

        def drain_one(worker: str) -> None:
            left = admin.drain(worker, reason)
            print_line(f"{worker} drains; {counted(len(left), 'reservation')} to finish")
            for name in left:
                print_line(name)

        _each(workers, drain_one)


def undrain(workers: Workers, reason: Reason = "", _yes: Yes = False) -> None:
    """Let workers have reservations again. It never asks.

    Examples:
      icebus admin undrain local
    """
    with _connect() as admin:

        def undrain_one(worker: str) -> None:
            admin.undrain(worker, reason)
            print_line(f"{worker} may have reservations again")

        _each(workers, undrain_one)


def retire(workers: Workers, reason: Reason = "", yes: Yes = False) -> None:
    """Forget workers that are gone for good: their boards, and all that is shown of them.

    Boards that another worker has go to that one, with their reservations. Others that are held
    fail, to be replaced where that is wanted. `icebus-broker remove` forbids a worker besides; one
    that is merely retired is known anew when it is back.

    Examples:
      icebus admin retire bench1 --reason "sold" --yes
    """
    which = f"{'worker' if len(workers) == 1 else 'workers'} {' '.join(workers)}"
    _confirm(f"Retire {which}, and forget the boards?", "retire", yes=yes)
    with _connect() as admin:

        def retire_one(worker: str) -> None:
            done = admin.retire(worker, reason)
            print_line(f"{worker} retired")
            for serial in done.forgotten:
                print_line(f"{serial} forgotten")
            for serial, other in sorted(done.moved.items()):
                print_line(f"{serial} belongs to {other}")
            for serial in done.lost:
                print_line(f"{serial} lost: it was held or quarantined")
            for name in done.ended:
                print_line(f"reservation {name} ended: no device is left of it")

        _each(workers, retire_one)


def is_asked() -> bool:
    """Whether somebody sits there who can answer."""
    return sys.stdin.isatty()


def _ask(what: str, names: Sequence[str], *, yes: bool) -> None:
    """Ask on a terminal, unless told not to; scripts are trusted to mean what they say."""
    if is_asked():
        _confirm(f"{what} {' '.join(names)}?", what.lower(), yes=yes)


def _confirm(question: str, what: str, *, yes: bool) -> None:
    """Ask, unless told not to."""
    if yes:
        return
    if not is_asked():
        raise typer.BadParameter(f"nobody can be asked here whether to {what}: say --yes")
    typer.confirm(question, abort=True, err=True)


def _connect() -> Admin:
    from icebus.client._admin import Admin

    return Admin(farm=FARM.get())


def _change(
    change: Callable[[Admin, list[str]], list[str]], serials: Sequence[str], what: str
) -> None:
    """Have boards changed, and tell of each whether it was, was so before, or could not be."""
    with _connect() as admin:

        def change_one(serial: str) -> None:
            changed = change(admin, [serial])
            for each in changed:
                print_line(f"{each} {what}")
            if not changed:
                print_message(f"{serial}: nothing to change")

        _each(serials, change_one)


def _each(names: Sequence[str], act: Callable[[str], None]) -> None:
    """Act on each; one that fails is told of and keeps no other from it.

    Raises:
        IcebusError: there is only one, or the farm can't be asked: none of the rest would fare
            better.
        Exit: some failed; with the exit code of what befell them, or that of any failure where
            that differs.
    """
    from icebus.client.cli.exit_codes import FAILED, UNREACHABLE, describe
    from icebus.schemas.errors import IcebusError

    once = list(dict.fromkeys(names))
    codes = set()
    for name in once:
        try:
            act(name)
        except IcebusError as error:
            message, hint, code = describe(error)
            if len(once) == 1 or code == UNREACHABLE:
                raise
            codes.add(code)
            print_message(said_of(name, message) + (f"; {hint}" if hint else ""))
    if codes:
        raise typer.Exit(codes.pop() if len(codes) == 1 else FAILED)
