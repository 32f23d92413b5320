"""What control would answer, read from what the broker retains: for observers, who may not ask.

It is what control and the workers last told everybody, so it can be older than an answer by as long
as a message takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from icebus.client._farm.offers import find, merge
from icebus.client._farm.survey import Survey
from icebus.schemas.devices import DeviceState
from icebus.schemas.liveness import Health
from icebus.schemas.operations.history import HistoryEntry, HistoryEvent
from icebus.schemas.operations.reservations import HoldState, KnownDevice, Reservation
from icebus.schemas.selectors import labels_of, parse


def devices(farm: Survey) -> list[KnownDevice]:
    """All devices, as their workers report them, with who holds them."""
    held = {
        device.serial: reservation
        for reservation in farm.reservations.values()
        for device in reservation.devices
        if device.state is not HoldState.RELEASED
    }
    found = []
    for (worker, serial), report in sorted(farm.devices.items(), key=lambda each: each[0][::-1]):
        if farm.merely_claims(worker, serial):
            continue
        state, holder, claim = farm.workers.get(worker), held.get(serial), farm.claims.get(serial)
        found.append(
            KnownDevice(
                worker=worker,
                report=report,
                fresh=farm.health(worker) is Health.READY,
                reservation=None if holder is None else holder.id,
                user=None if holder is None else holder.user,
                labels=labels_of(worker, report),
                quarantined=report.reason if report.state is DeviceState.QUARANTINED else None,
                draining=None if state is None else state.draining,
                claimed_by=[] if claim is None else list(claim.claimed_by),
            )
        )
    return found


def reservations(farm: Survey, user: str | None) -> list[Reservation]:
    """Reservations that have not ended, of one user or of all, oldest first."""
    found = [each for each in farm.reservations.values() if user in (None, each.user)]
    return sorted(found, key=lambda each: (each.created, each.id))


def available(farm: Survey, kind: str, selector: str | None) -> list[str]:
    """The devices that are free and ready for a kind.

    What is kept back for those who wait for more than there is, control alone knows.

    Raises:
        UnknownKind: no worker offers it.
        InvalidRequest: the selector is none.
    """
    wanted = parse(selector or "")
    workers = {worker for offer in find(merge(farm.kinds), kind) for worker in offer.workers}
    return sorted(
        each.report.serial
        for each in devices(farm)
        if each.worker in workers
        and each.fresh
        and each.report.state is DeviceState.READY
        and each.report.reservation is None
        and each.reservation is None
        and each.draining is None
        and wanted.matches(each.labels)
    )


def history(
    entries: Iterable[HistoryEntry],
    *,
    user: str | None,
    reservation: str | None,
    serial: str | None,
    worker: str | None,
    events: Iterable[HistoryEvent] | None,
    since: datetime | None,
    limit: int,
) -> list[HistoryEntry]:
    """Those entries that match all that is given, in the same order."""
    wanted = None if events is None else set(events)
    found = [
        each
        for each in entries
        if user in (None, each.user)
        and reservation in (None, each.reservation)
        and (serial is None or serial.casefold() == (each.serial or "").casefold())
        and worker in (None, each.worker)
        and (wanted is None or each.event in wanted)
        and (since is None or each.at >= since)
    ]
    return found[:limit]
