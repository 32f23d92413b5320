"""The alarm that several workers say they have a device: recorded, told, and taken back."""

from __future__ import annotations

import logging
from collections.abc import Collection

from sqlmodel import col, select

from icebus.control.store.database import batches
from icebus.control.store.tables import DeviceRow
from icebus.control.transaction import Transaction
from icebus.schemas.devices import DeviceClaim
from icebus.schemas.operations.history import HistoryEvent
from icebus.schemas.wording import counted

NAMED = 5
"""Serials at most that a line of the log names."""


def record_claims(transaction: Transaction, devices: Collection[DeviceRow]) -> None:
    """Record who else claims these devices, where that has changed, and raise or end the alarm."""
    news: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for device in devices:
        claimed, before = list(transaction.workers.claimants(device.serial)), device.claimed_by
        if claimed == (before or []):
            continue
        device.claimed_by = claimed or None
        device.claimed_since = transaction.now if claimed else None
        _publish(transaction, device)
        for worker in sorted(set(claimed).difference(before or ())):
            transaction.record_history(
                HistoryEvent.DEVICE_CLAIMED,
                serial=device.serial,
                worker=worker,
                reason=f"belongs to {device.worker}",
            )
        news.setdefault((device.worker, tuple(claimed)), []).append(device.serial)
    for (owner, claimed_by), serials in news.items():
        _log(transaction, owner, claimed_by, sorted(serials))


def repeat_claims(transaction: Transaction, serials: Collection[str]) -> None:
    """Publish the alarms of these devices again, and clear those that are over."""
    for some in batches(serials):
        query = select(DeviceRow).where(
            col(DeviceRow.serial).in_(some), col(DeviceRow.claimed_since).is_not(None)
        )
        alarms = {device.serial: device for device in transaction.session.exec(query)}
        for serial in some:
            if serial in alarms:
                _publish(transaction, alarms[serial])
            else:
                transaction.publish_claim(serial, None)


def _publish(transaction: Transaction, device: DeviceRow) -> None:
    claim = None
    if device.claimed_by and device.claimed_since is not None:
        claim = DeviceClaim(
            serial=device.serial,
            worker=device.worker,
            claimed_by=device.claimed_by,
            since=device.claimed_since,
            remedy=remedy(device.serial, device.worker, device.claimed_by[0]),
        )
    transaction.publish_claim(device.serial, claim)


def remedy(serial: str, owner: str, claimant: str) -> str:
    """What an administrator does about a device that two workers claim."""
    return (
        f"if the board is at {claimant} now, `icebus admin move {serial} --to {claimant}`; if "
        f"{owner} is gone for good, `icebus admin retire {owner}`; otherwise stop {claimant}, or "
        "give its rack serials of its own"
    )


def _log(
    transaction: Transaction, owner: str, claimed_by: tuple[str, ...], serials: list[str]
) -> None:
    more = len(serials) - NAMED
    named = ", ".join(serials[:NAMED]) + (f" and {more} more" if more > 0 else "")
    which = f"{counted(len(serials), 'device')} of worker {owner} ({named})"
    if not claimed_by:
        transaction.log(f"{which}: claimed by no other worker any more", worker=owner)
        return
    names = " and ".join(claimed_by)
    transaction.log(
        f"{which}: claimed by {names} too, whose word on it does not count; "
        + remedy(serials[0], owner, claimed_by[0]),
        level=logging.WARNING,
        worker=owner,
    )
