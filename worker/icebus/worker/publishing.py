"""Everything that a worker publishes: its devices' states and events, its own state, its heartbeat.

Answers to calls are in :mod:`icebus.worker.calls`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import version

from icebus.bus import Bus, StatePublisher, Will
from icebus.schemas.calls import event_json
from icebus.schemas.components import (
    Heartbeat,
    WorkerHeartbeat,
    WorkerKinds,
    WorkerLoad,
    WorkerPhase,
    WorkerState,
)
from icebus.schemas.devices import DeviceEvent, DeviceEventName, DeviceReport, DeviceState
from icebus.schemas.message import now
from icebus.schemas.topics import (
    DEVICE,
    EVENT,
    WORKER_EVENT,
    WORKER_HEARTBEAT,
    WORKER_KINDS,
    WORKER_STATE,
)
from icebus.worker.device.device_report import DeviceStatus
from icebus.worker.states import Hold, Reservable

log = logging.getLogger(__name__)


def last_will(worker: str, session: str) -> Will:
    """What the broker publishes when the worker is lost."""
    return Will(WORKER_STATE(worker=worker), _state(WorkerPhase.LOST, session))


class Publishing:
    """Publishes for one worker. Devices call it on their loop.

    Args:
        bus: that it is published on.
        worker: its id.
        session: new at each of its starts.
    """

    def __init__(self, bus: Bus, worker: str, session: str) -> None:
        self._bus = bus
        self._worker = worker
        self._session = session
        self._state_publisher = StatePublisher(bus, WORKER_STATE, worker=worker)
        self._lock = threading.Lock()
        self._reported: dict[str, tuple[DeviceState, str]] = {}
        self._outcomes = {"results": 0, "failures": 0}

    # --- of devices -----------------------------------------------------------------------------

    def report(self, report: DeviceReport) -> None:
        """Publish a device's state, and the event that it, or the reason for it, has changed."""
        self._bus.publish(DEVICE(worker=self._worker, serial=report.serial), report)
        with self._lock:
            before, why = self._reported.get(report.serial, (None, ""))
            self._reported[report.serial] = (report.state, report.reason)
        if (before, why) == (report.state, report.reason):
            return
        _log_change(before, report)
        self._bus.publish(
            WORKER_EVENT(worker=self._worker),
            DeviceEvent(
                event=_event_name(before, report.state),
                serial=report.serial,
                at=now(),
                state=report.state,
                reason=report.reason,
            ),
        )

    def emit(self, hold: Hold, serial: str, event: str, sequence: int, data: str) -> None:
        """Publish an event of a device's state to its holder."""
        if event in self._outcomes:
            self._outcomes[event] += 1
        self._bus.publish(
            EVENT(
                user=hold.user,
                reservation=hold.reservation,
                sender=self._worker,
                serial=serial,
                event=event,
            ),
            event_json(sequence, data),
        )

    def forget(self, serial: str) -> None:
        """Take back the retained state of a device that is gone."""
        self._bus.clear(DEVICE(worker=self._worker, serial=serial))

    # --- of the worker --------------------------------------------------------------------------

    def state(self, phase: WorkerPhase, serials: Collection[str], draining: str | None) -> None:
        """Publish what the worker does, again whenever the topic holds something else."""
        self._state_publisher.publish(_state(phase, self._session, serials, draining))

    def close(self, serials: Collection[str], draining: str | None) -> None:
        """Publish that the worker is offline, before the bus is closed."""
        self._state_publisher.close(_state(WorkerPhase.OFFLINE, self._session, serials, draining))

    def kinds(self, kinds: Mapping[str, type[Reservable]]) -> None:
        """Publish what devices may be reserved for."""
        self._bus.publish(
            WORKER_KINDS(worker=self._worker),
            WorkerKinds(kinds={name: kind.info() for name, kind in kinds.items()}),
        )

    def heartbeat(self, beat: Heartbeat, devices: Iterable[DeviceStatus]) -> None:
        """Answer control's heartbeat."""
        statuses = list(devices)
        self._bus.publish(
            WORKER_HEARTBEAT(worker=self._worker),
            WorkerHeartbeat(
                epoch=beat.epoch,
                sequence=beat.sequence,
                session=self._session,
                load=WorkerLoad(
                    devices=len(statuses),
                    serving=sum(status.hold is not None for status in statuses),
                    queued=sum(status.load for status in statuses),
                    **self._outcomes,
                ),
            ),
            interval=beat.interval,
        )


_WARNED_OF = (DeviceState.BROKEN, DeviceState.QUARANTINED)


def _log_change(before: DeviceState | None, report: DeviceReport) -> None:
    """Say which boards come and go, and why one fails; what serves changes too often for a log."""
    fields = {
        "subject": report.serial,
        "serial": report.serial,
        "state": report.state.value,
        "port": report.port,
    }
    why = f": {report.reason}" if report.reason else ""
    event = _event_name(before, report.state)
    if report.state in _WARNED_OF:
        log.warning("board %s is %s%s", report.serial, report.state.value, why, extra=fields)
    elif event is DeviceEventName.ADDED:
        log.info("board %s came, at port %s", report.serial, report.port or "?", extra=fields)
    elif event is DeviceEventName.REMOVED:
        log.info("board %s went%s", report.serial, why, extra=fields)
    elif before in _WARNED_OF and report.state is DeviceState.READY:
        log.info("board %s is ready again", report.serial, extra=fields)
    elif report.state is DeviceState.READY and before in (DeviceState.TESTING, None):
        log.info("board %s is ready", report.serial, extra=fields)
    elif report.state is DeviceState.FLASHING:
        log.info("board %s is being flashed%s", report.serial, why, extra=fields)
    elif report.state is DeviceState.PREPARING and why:
        log.info("board %s is prepared anew%s", report.serial, why, extra=fields)


def _event_name(before: DeviceState | None, after: DeviceState) -> DeviceEventName:
    gone = (None, DeviceState.ABSENT)
    if before in gone and after not in gone:
        return DeviceEventName.ADDED
    if before not in gone and after in gone:
        return DeviceEventName.REMOVED
    return DeviceEventName.STATE


def _state(
    phase: WorkerPhase,
    session: str,
    serials: Collection[str] = (),
    draining: str | None = None,
) -> WorkerState:
    return WorkerState(
        state=phase,
        session=session,
        version=version("icebus"),
        serials=sorted(serials),
        draining=draining,
    )
