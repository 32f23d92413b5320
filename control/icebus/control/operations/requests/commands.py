"""Having devices do something once, for administrators or for whoever holds them.

A command is a number in what is desired of a device that has grown: the worker acts on it once.
"""

from __future__ import annotations

from collections.abc import Collection

from icebus.control.decide.lifecycle import advance_hold
from icebus.control.operations.reservations import increment_generation, live_holds_by_serial
from icebus.control.store.tables import DeviceRow, HoldRow, ReservationRow
from icebus.control.transaction import Transaction
from icebus.schemas.operations.history import HistoryEvent
from icebus.schemas.operations.reservations import HoldState


def reboot_devices(
    transaction: Transaction,
    user: str,
    serials: Collection[str],
    event: HistoryEvent = HistoryEvent.REBOOTED,
    reason: str = "",
) -> None:
    """Have boards restarted; who holds them keeps them, and is told when they serve again."""
    for device, hold, reservation in change_devices(transaction, user, serials, event, reason):
        device.reboot += 1
        _begin_anew(transaction, user, "reboot", device, hold, reservation)


def reflash_devices(
    transaction: Transaction, user: str, serials: Collection[str], reason: str = ""
) -> None:
    """Have boards' firmware written anew; likewise."""
    event = HistoryEvent.REFLASHED
    for device, hold, reservation in change_devices(transaction, user, serials, event, reason):
        device.reflash += 1
        _begin_anew(transaction, user, "reflash", device, hold, reservation)


def change_devices(
    transaction: Transaction,
    user: str,
    serials: Collection[str],
    event: HistoryEvent,
    reason: str,
) -> list[tuple[DeviceRow, HoldRow | None, ReservationRow | None]]:
    """Begin to want something else of devices, whoever holds them; it stands in the history.

    Returns:
        Each device with the live hold that it is in. The caller changes it, and publishes that.
    """
    held = live_holds_by_serial(transaction, serials)
    transaction.session.flush()
    changed = []
    for device in increment_generation(transaction, serials):
        hold, reservation = held.get(device.serial, (None, None))
        transaction.record_history(
            event,
            reservation,
            actor=user,
            serial=device.serial,
            worker=device.worker,
            reason=reason,
        )
        transaction.log(f"{device.serial} {event} by {user}", serial=device.serial)
        changed.append((device, hold, reservation))
    transaction.request_scheduling()
    return changed


def _begin_anew(
    transaction: Transaction,
    user: str,
    command: str,
    device: DeviceRow,
    hold: HoldRow | None,
    reservation: ReservationRow | None,
) -> None:
    """A device that is commanded serves nobody until its worker reports that it does again."""
    device.asked_by = user
    transaction.publish_desired(device, reservation)
    if hold is not None and reservation is not None and hold.state is HoldState.SERVING:
        hold.state = advance_hold(hold.state, HoldState.PREPARING)
        hold.reason = f"{command}, as {user} asked"
        transaction.publish_document(reservation)
