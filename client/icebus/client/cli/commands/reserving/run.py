"""``icebus run``: boards that are held while a command runs."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from icebus.client._reservation.named import VARIABLE
from icebus.client.cli.connecting import FARM, connect
from icebus.client.cli.options.shared_options import (
    KIND,
    Count,
    Kind,
    Priority,
    Replace,
    ReservationArgs,
    Selector,
    Serials,
    Wait,
)
from icebus.client.cli.output.printing import print_message
from icebus.schemas.wording import counted

if TYPE_CHECKING:
    from icebus.client._reservation.reservation import Reservation
    from icebus.client.cli.processes.child_process import ChildProcess
    from icebus.schemas.deadline import Deadline
    from icebus.schemas.operations.reservations import DeviceFailedEvent, DeviceReplaced

LOOK_AFTER = 1.0
"""Seconds between looks whether the boards are held still."""

KILL_AFTER = 10.0
"""Seconds that a command has to end in good order once it is told that the boards are lost."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    # What stands behind the command is the command's, whatever it looks like.
    app.command(context_settings={"allow_interspersed_args": False})(run)


def run(
    command: Annotated[
        list[str],
        typer.Argument(help="The program to run, and its arguments.", show_default=False),
    ],
    count: Count = None,
    serial: Serials = None,
    kind: Kind = KIND,
    arg: ReservationArgs = None,
    selector: Selector = None,
    wait: Wait = None,
    priority: Priority = 0,
    replace: Replace = False,
    kill_on_loss: Annotated[
        bool,
        typer.Option(
            "--kill-on-loss",
            help="End the command when the reservation is lost: by SIGTERM, and after 10 s by "
            "SIGKILL. Without, it goes on, and what it asks of the boards fails.",
        ),
    ] = False,
) -> None:
    """Hold boards while a command runs; they are free again when it has ended, however it ends.

    The command finds the reservation in $ICEBUS_RESERVATION: `icebus evaluate`, `map`, `call`,
    `results` and others use it by themselves, and in Python `PulseCountClient().attach()` does. It
    is extended for as long as the command runs. Ctrl-C and other signals go to the command, whose
    exit code is returned; 128 and the signal's number if one ended it. When boards fail, or the
    reservation ends before the command, that is told on stderr.

    Examples:
      icebus run -n 2 -- python search.py
      icebus run -n 4 -l chip=rp2350 --wait 2h -- make measure
      icebus run -n 2 -- sh -c 'icebus evaluate a.bin && icebus evaluate b.bin'
    """
    from icebus.client.cli.json_schemas.kinds import offered_reservation_args
    from icebus.client.cli.output.progress import queue_messages
    from icebus.client.cli.processes.child_process import ChildProcess, check_command
    from icebus.client.cli.processes.signals import PASSED_ON, Signals

    if count is not None and serial:
        raise typer.BadParameter("give either how many (-n) or which (--serial)")
    check_command(command)
    environment = environment_of_farm()
    with connect() as client:
        args = offered_reservation_args(client, kind, arg)
        client.on("device_failed")(_tell_failed)
        client.on("device_replaced")(_tell_replaced)
        wanted = ", ".join(serial) if serial else counted(count or 1, "board")
        with queue_messages(client, f"preparing {wanted}", wait):
            held = client.reserve(
                count,
                serials=serial or None,
                selector=selector,
                kind=kind,
                args=args,
                wait=wait or 0.0,
                priority=priority,
                replace=replace,
            )
        with Signals(PASSED_ON) as signals, held:
            print_message(
                f"{' '.join(held.serials)} held for `{command[0]}` (reservation {held.id})"
            )
            child = ChildProcess(command, {**environment, VARIABLE: held.id})
            code = child.wait(signals, Watch(held, child, kill=kill_on_loss).look)
    if code:
        raise typer.Exit(code)


def environment_of_farm() -> dict[str, str]:
    """Our variables, and with them the farm that we use, whatever is chosen meanwhile."""
    from icebus.client._profiles.profile import FARM_VARIABLE, URL_VARIABLE, find_profile

    environment = dict(os.environ)
    if FARM.get() is None and environment.get(URL_VARIABLE):
        return environment
    profile = find_profile(FARM.get() or environment.get(FARM_VARIABLE) or None)
    environment.pop(URL_VARIABLE, None)
    if profile.path is not None:
        environment[FARM_VARIABLE] = str(profile.path)
    return environment


class Watch:
    """Looks after a reservation while a command uses it.

    Args:
        held: the reservation.
        child: the command.
        kill: whether it is to end when the reservation is lost.
    """

    def __init__(self, held: Reservation, child: ChildProcess, *, kill: bool) -> None:
        self._held = held
        self._child = child
        self._kill = kill
        self._told = False
        self._killed_at: Deadline | None = None

    def look(self) -> Deadline:
        """Say once that the reservation is lost, and end the command then if it is to end.

        Returns:
            When to look again.
        """
        from icebus.schemas.deadline import Deadline

        if not self._told and (loss := self._held.lost) is not None:
            self._told = True
            then = "it is told to end" if self._kill else "it goes on without boards"
            why = loss.message.partition(";")[0]  # what is behind it is for who asked something
            print_message(f"icebus: {why}: the command has lost its boards, and {then}")
            if self._kill:
                self._killed_at = Deadline.after(KILL_AFTER)
                self._child.send(signal.SIGTERM)
        if self._killed_at is not None and self._killed_at.expired:
            self._killed_at = None
            print_message(f"icebus: the command did not end in {KILL_AFTER:g} s and is killed")
            self._child.send(signal.SIGKILL)
        return Deadline.after(LOOK_AFTER)


def _tell_failed(failed: DeviceFailedEvent) -> None:
    print_message(f"icebus: {failed.serial} failed: {failed.reason}")


def _tell_replaced(replaced: DeviceReplaced) -> None:
    print_message(f"icebus: {replaced.by} takes the place of {replaced.serial}")
