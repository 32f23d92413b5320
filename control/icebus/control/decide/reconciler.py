"""Desired against reported: what each device should do, and how its hold stands. Pure.

Control never commands. It publishes what it wants of a device, reads what the worker reports, and
concludes from the difference, again and again; whatever was missed is caught by the next look.
"""

from __future__ import annotations

from dataclasses import dataclass

from icebus.control.store.tables import DeviceRow, HoldRow, ReservationRow
from icebus.schemas.devices import Desired, DeviceReport, DeviceState
from icebus.schemas.errors import DeviceFailed, DeviceUnplugged, WorkerLost
from icebus.schemas.liveness import Health
from icebus.schemas.reservations import HoldState

BROKEN = (DeviceState.BROKEN, DeviceState.QUARANTINED)
"""States of devices that fail whoever holds them."""


def desired(device: DeviceRow, reservation: ReservationRow | None) -> Desired:
    """What control wants of a device, given the live reservation that holds it."""
    rest = Desired(
        serial=device.serial,
        generation=device.generation,
        quarantined=device.quarantined,
        reboot=device.reboot,
        reflash=device.reflash,
    )
    if reservation is None:
        return rest
    return rest.model_copy(
        update={
            "reservation": reservation.id,
            "user": reservation.user,
            "kind": reservation.kind,
            "args": reservation.args,
            "until": reservation.until,
        }
    )


@dataclass(frozen=True)
class Seen:
    """What is known of a held device at one moment.

    Attributes:
        report: the last one, absent when the worker has the device no more; None if none came.
        current: whether the present run of the worker made it.
        health: of the worker.
        why_gone: what became of the worker, for people.
    """

    report: DeviceReport | None
    current: bool
    health: Health
    why_gone: str = ""


@dataclass(frozen=True)
class Verdict:
    """How a hold stands; ``code`` is that of the error its evaluations end with."""

    state: HoldState
    reason: str = ""
    code: str = ""


def judge(hold: HoldRow, generation: int, seen: Seen) -> Verdict:
    """How the hold of a device stands, given what is known of it.

    A device that is prepared again after it served (a repair) is ``preparing`` until it serves; one
    that failed stays ``failed`` until it serves, so that each failure is told once.
    """
    unchanged = Verdict(hold.state, hold.reason)
    report = seen.report
    if seen.health is Health.GONE:
        return Verdict(HoldState.FAILED, seen.why_gone, WorkerLost.code)
    if report is None:
        return unchanged
    if not seen.current:
        # Unknown: its state has yet to come. Otherwise another run of the worker owns the device,
        # and nothing that this hold was promised is there any more.
        if seen.health is Health.UNKNOWN or hold.state is not HoldState.SERVING:
            return unchanged
        return Verdict(HoldState.FAILED, f"worker {hold.worker} was restarted", WorkerLost.code)
    if report.state is DeviceState.ABSENT:
        return Verdict(HoldState.FAILED, report.reason or "unplugged", DeviceUnplugged.code)
    if report.state in BROKEN:
        return Verdict(HoldState.FAILED, report.reason or report.state.value, DeviceFailed.code)
    if report.generation < generation:
        return unchanged
    if report.state is DeviceState.SERVING and report.reservation == hold.reservation:
        return Verdict(HoldState.SERVING)
    if hold.state is HoldState.SERVING:
        return Verdict(HoldState.PREPARING, report.reason or report.state.value)
    return unchanged
