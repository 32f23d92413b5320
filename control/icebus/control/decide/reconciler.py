"""Desired against reported: how the hold of a device stands. Pure.

Control never commands. It publishes what it wants of a device, reads what the worker reports, and
concludes from the difference, again and again; whatever was missed is caught by the next look.
"""

from __future__ import annotations

from dataclasses import dataclass

from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.errors import DeviceFailed, DeviceUnplugged, WorkerLost
from icebus.schemas.liveness import Health
from icebus.schemas.operations.reservations import HoldState

BROKEN = (DeviceState.BROKEN, DeviceState.QUARANTINED)
"""States of devices that fail whoever holds them."""


@dataclass(frozen=True)
class Held:
    """A device of a reservation, as control has recorded it.

    Attributes:
        reservation: which one holds it.
        worker: whose device it is.
        generation: of what is desired of it.
        state: of the hold, so far.
        reason: for that state.
    """

    reservation: str
    worker: str
    generation: int
    state: HoldState
    reason: str = ""


@dataclass(frozen=True)
class Observed:
    """What the bus shows of a held device at one moment.

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


def judge(held: Held, observed: Observed) -> Verdict:
    """How the hold of a device stands, given what is known of it.

    A device that is prepared again after it served (a repair) is ``preparing`` until it serves; one
    that failed stays ``failed`` until it serves, so that each failure is told once.
    """
    unchanged = Verdict(held.state, held.reason)
    report = observed.report
    if observed.health is Health.GONE:
        return Verdict(HoldState.FAILED, observed.why_gone, WorkerLost.code)
    if report is None:
        return unchanged
    if not observed.current:
        # Unknown: its state has yet to come. Otherwise another run of the worker owns the device,
        # and nothing that this hold was promised is there any more.
        if observed.health is Health.UNKNOWN or held.state is not HoldState.SERVING:
            return unchanged
        return Verdict(HoldState.FAILED, f"worker {held.worker} was restarted", WorkerLost.code)
    if report.state is DeviceState.ABSENT:
        return Verdict(HoldState.FAILED, report.reason or "unplugged", DeviceUnplugged.code)
    if report.state in BROKEN:
        return Verdict(HoldState.FAILED, report.reason or report.state.value, DeviceFailed.code)
    if report.generation < held.generation:
        return unchanged
    if report.state is DeviceState.SERVING and report.reservation == held.reservation:
        return Verdict(HoldState.SERVING)
    if held.state is HoldState.SERVING:
        return Verdict(HoldState.PREPARING, report.reason or report.state.value)
    return unchanged
