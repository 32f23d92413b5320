"""Boards that a farm of this machine had before and has no more: fewer are wanted, or others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from icebus.client._admin import Admin
from icebus.schemas.boards.rack import read_rack_file
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import IcebusError
from icebus.schemas.operations.reservations import KnownDevice
from icebus.schemas.wording import counted

REASON = "the farm was started without it"

NAMED = 5
"""Boards that are named in a line; more are counted."""


def former_boards(
    devices: Iterable[KnownDevice], plugged: Collection[str], worker: str, *, usb: bool
) -> list[KnownDevice]:
    """Those of a farm's boards that can't come back as it was started now. Pure.

    Args:
        devices: all that its control knows.
        plugged: serials of the boards in its rack.
        worker: the one that `icebus up` runs; boards of others come and go as they like.
        usb: whether boards on USB may come, too.
    """
    return [
        each
        for each in devices
        if each.worker == worker
        and each.report.serial not in plugged
        and each.report.state in (DeviceState.ABSENT, DeviceState.QUARANTINED)
        and (each.report.virtual or not usb)
    ]


def has_something_to_lose(device: KnownDevice) -> bool:
    """Whether somebody holds it, or has it given to nobody for a reason."""
    return device.reservation is not None or device.quarantined is not None


def plugged_boards(rack: Path) -> set[str] | None:
    """Serials of the boards that a rack is to have; None where that can't be told."""
    try:
        file = read_rack_file(rack)
    except IcebusError:
        return None
    return set() if file is None else {each.serial for each in file.boards}


def retire_former(admin: str, former: list[KnownDevice]) -> list[str]:
    """Have control forget boards that are gone, but for those with something to lose.

    Best effort: the farm is up all the same.

    Args:
        admin: the URL of the farm's administrator.
        former: those boards.

    Returns:
        Lines for people that say what has become of them.
    """
    lines = [_kept(each) for each in former if has_something_to_lose(each)]
    gone = [each.report.serial for each in former if not has_something_to_lose(each)]
    if not gone:
        return lines
    try:
        with Admin(admin) as client:
            client.forget(gone, REASON)
    except IcebusError as error:
        # Somebody took one meanwhile, or control is away again.
        return [f"former boards are still listed: {error.message}", *lines]
    return [f"{counted(len(gone), 'former board')} forgotten: {_named(gone)}", *lines]


def _kept(device: KnownDevice) -> str:
    serial = device.report.serial
    if device.reservation is not None:
        return (
            f"{serial} is not here any more and {device.user} holds it; it goes at the next start "
            f"after `icebus release {device.reservation}`"
        )
    return (
        f"{serial} is not here any more and in quarantine ({device.quarantined}); "
        f"`icebus --farm admin admin forget {serial}` drops it"
    )


def _named(serials: list[str]) -> str:
    more = f" and {len(serials) - NAMED} more" if len(serials) > NAMED else ""
    return f"{', '.join(serials[:NAMED])}{more}"
