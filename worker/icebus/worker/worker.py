"""The worker on the bus: tells of its devices, hears what control desires, lets clients call."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import wait
from functools import partial
from importlib.metadata import version
from pathlib import Path

from icebus.bus import BrokerAddress, Bus, Incoming, StatePublisher, Will
from icebus.schemas.calls import Event
from icebus.schemas.components import (
    Heartbeat,
    WorkerHeartbeat,
    WorkerKinds,
    WorkerLoad,
    WorkerPhase,
    WorkerState,
)
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import (
    Desired,
    DeviceEvent,
    DeviceEventName,
    DeviceReport,
    DeviceState,
    WorkerDesired,
)
from icebus.schemas.files import ENCODING_PROPERTY, IDENTITY
from icebus.schemas.ids import new_id
from icebus.schemas.message import Message, decode, now
from icebus.schemas.topics import (
    BLOB,
    CALL,
    CONTROL_HEARTBEAT,
    DESIRED,
    DEVICE,
    EVENT,
    WORKER_DESIRED,
    WORKER_EVENT,
    WORKER_HEARTBEAT,
    WORKER_KINDS,
    WORKER_STATE,
)
from icebus.worker.blobs import BlobStore
from icebus.worker.calls import Calls
from icebus.worker.device.device import PROBE_EVERY, Device
from icebus.worker.hardware.board import Discovery, Snapshot
from icebus.worker.inventory import Inventory
from icebus.worker.labels import Labels
from icebus.worker.loop import Loop
from icebus.worker.states._framework import Hold
from icebus.worker.states._registry import installed_kinds

log = logging.getLogger(__name__)

FINISH_SECONDS = 6.5
"""How long a worker that is stopped waits for what its boards measure: the longest window known is
5 s. What waits behind it is not begun."""

LOOP_SECONDS = 2.0
"""Then for its devices' threads, of which a driver may hold some for ever."""


class Worker:
    """Owns the boards that its discoveries find.

    Args:
        address: the broker; the user there is the worker's id.
        discoveries: where boards come from.
        directory: for journals; must be the same at the next start.
        labels: of its devices.
        probe_every: seconds between looks at a board that nobody uses, about; 0 for never.
    """

    def __init__(
        self,
        address: BrokerAddress,
        discoveries: Sequence[Discovery],
        directory: Path,
        labels: Labels | None = None,
        probe_every: float = PROBE_EVERY,
    ) -> None:
        self.id = address.user
        self.session = new_id()
        self._directory = directory
        self._labels = labels or Labels()
        self._probe_every = probe_every
        self._discoveries = discoveries
        self._kinds = installed_kinds()
        self._blobs = BlobStore()
        self._loop = Loop("devices")
        self._inventory = Inventory(self._make_device, self._say_state)
        self._found_all = False
        self._draining: str | None = None
        self._stopping = False
        self._lock = threading.Lock()
        self._desired: dict[str, Desired] = {}
        self._said: dict[str, tuple[DeviceState, str]] = {}
        self._found: dict[int, Snapshot] = {}
        self._recalled: set[str] = set()
        self._bus = Bus(
            address,
            name=f"worker-{self.id}",
            will=Will(WORKER_STATE(worker=self.id), self._state(WorkerPhase.LOST)),
        )
        self._state_publisher = StatePublisher(self._bus, WORKER_STATE, worker=self.id)
        self._calls = Calls(self._bus, self.id, self._inventory, self._kinds, self._blobs)

    def start(self, deadline: Deadline) -> None:
        """Connect, and begin to look for boards.

        Raises:
            BrokerUnavailable: no broker answers.
            NotAuthorized: it does not know us.
        """
        self._bus.subscribe(DESIRED, self._on_desired, worker=self.id)
        self._bus.subscribe(WORKER_DESIRED, self._on_worker_desired, worker=self.id)
        self._bus.subscribe(CONTROL_HEARTBEAT, self._on_heartbeat)
        self._bus.subscribe(DEVICE, self._on_own_device, worker=self.id)
        self._bus.subscribe(BLOB, self._on_blob, worker=self.id)
        self._bus.subscribe(CALL, self._calls.handle, worker=self.id)
        self._bus.connect(deadline)
        self._bus.on_connected(self._repeat)
        self._say_state()
        self._loop.start()
        for number, discovery in enumerate(self._discoveries):
            discovery.start(partial(self._on_boards, number))

    def stop(self, deadline: Deadline) -> None:
        """End every device's work with an explicit outcome, say goodbye, and disconnect.

        What is on a board is measured to its end, if that is not far; what waits fails.
        """
        self._calls.close()
        self._stopping = True
        self._loop.post(self._say_state)
        for discovery in self._discoveries:
            discovery.stop()
        finishing = [device.finish() for device in self._inventory.all]
        wait(finishing, min(FINISH_SECONDS, deadline.remaining))
        self._inventory.stop()
        if not self._loop.stop(Deadline.after(min(LOOP_SECONDS, deadline.remaining))):
            log.error("the devices did not stop in time")
        self._state_publisher.close(self._state(WorkerPhase.OFFLINE))
        self._bus.close(deadline)

    # --- boards -------------------------------------------------------------------------------

    def _on_boards(self, discovery: int, boards: Snapshot) -> None:
        self._loop.post(lambda: self._update(discovery, boards))

    def _update(self, discovery: int, boards: Snapshot) -> None:
        self._found[discovery] = boards
        self._inventory.update([board for found in self._found.values() for board in found])
        if not self._found_all and len(self._found) == len(self._discoveries):
            self._found_all = True
            self._say_state()
            for serial in self._recalled:
                self._forget(serial)

    def _recall(self, serial: str) -> None:
        """An earlier life of this worker has told of a device; it may be gone by now."""
        if not self._found_all:
            self._recalled.add(serial)
        else:
            self._forget(serial)

    def _forget(self, serial: str) -> None:
        if serial not in self._inventory.devices:
            self._bus.clear(DEVICE(worker=self.id, serial=serial))

    def _make_device(self, serial: str | None, path: str) -> Device:
        device = Device(
            self._loop,
            serial,
            path,
            self._kinds,
            self,
            self.session,
            self._directory,
            self._labels.at,
            self._probe_every,
        )
        if serial is not None:
            self._acquaint(device, serial)
        return device

    def _acquaint(self, device: Device, serial: str) -> None:
        with self._lock:
            desired = self._desired.get(serial)
        if desired is not None:
            device.desire(desired)

    # --- what devices say (on the loop) ------------------------------------------------------

    def report(self, report: DeviceReport) -> None:
        """Publish a device's state, and the event that it, or the reason for it, has changed."""
        self._bus.publish(DEVICE(worker=self.id, serial=report.serial), report)
        with self._lock:
            before, why = self._said.get(report.serial, (None, ""))
            self._said[report.serial] = (report.state, report.reason)
        if (before, why) == (report.state, report.reason):
            return
        gone = (None, DeviceState.ABSENT)
        if before in gone and report.state not in gone:
            event = DeviceEventName.ADDED
        elif before not in gone and report.state in gone:
            event = DeviceEventName.REMOVED
        else:
            event = DeviceEventName.STATE
        self._bus.publish(
            WORKER_EVENT(worker=self.id),
            DeviceEvent(
                event=event,
                serial=report.serial,
                at=now(),
                state=report.state,
                reason=report.reason,
            ),
        )

    def emit(self, hold: Hold, serial: str, event: str, sequence: int, data: Message) -> None:
        """Publish an event of a device's state to its holder."""
        self._bus.publish(
            EVENT(
                user=hold.user,
                reservation=hold.reservation,
                sender=self.id,
                serial=serial,
                event=event,
            ),
            Event(sequence=sequence, data=data),
        )

    # --- what the bus says (on its dispatcher) --------------------------------------------------

    def _on_desired(self, incoming: Incoming) -> None:
        if not incoming.payload:
            return
        desired = decode(Desired, incoming.payload)
        serial = incoming.ids["serial"]
        if desired.serial != serial:
            log.warning("desired state of %s on the topic of %s", desired.serial, serial)
            return
        with self._lock:
            known = self._desired.get(serial)
            if known is not None and known.generation > desired.generation:
                return
            self._desired[serial] = desired
        device = self._inventory.devices.get(serial)
        if device is not None:
            device.desire(desired)

    def _on_worker_desired(self, incoming: Incoming) -> None:
        wanted = decode(WorkerDesired, incoming.payload) if incoming.payload else WorkerDesired()
        if wanted.draining != self._draining:
            self._draining = wanted.draining
            log.info("draining: %s", "no more" if wanted.draining is None else wanted.draining)
            self._loop.post(self._say_state)

    def _on_heartbeat(self, incoming: Incoming) -> None:
        if not incoming.payload:
            return
        beat = decode(Heartbeat, incoming.payload)
        statuses = [device.status for device in self._inventory.devices.values()]
        self._bus.publish(
            WORKER_HEARTBEAT(worker=self.id),
            WorkerHeartbeat(
                epoch=beat.epoch,
                sequence=beat.sequence,
                session=self.session,
                load=WorkerLoad(
                    devices=len(statuses),
                    serving=sum(status.hold is not None for status in statuses),
                    queued=sum(status.load for status in statuses),
                ),
            ),
            interval=beat.interval,
        )

    def _on_own_device(self, incoming: Incoming) -> None:
        if incoming.retained and incoming.payload:
            self._loop.post(partial(self._recall, incoming.ids["serial"]))

    def _on_blob(self, incoming: Incoming) -> None:
        user = incoming.ids["user"]
        with self._lock:
            holds = any(d.user == user and d.reservation for d in self._desired.values())
        if not holds:
            log.warning("dropped a file of %s, who holds no device here", user)
            return
        encoding = incoming.properties.get(ENCODING_PROPERTY, IDENTITY)
        self._blobs.put(user, incoming.ids["sha256"], incoming.payload, encoding)

    # --- what the worker says -------------------------------------------------------------------

    def _state(self, phase: WorkerPhase) -> WorkerState:
        return WorkerState(
            state=phase,
            session=self.session,
            version=version("icebus"),
            serials=sorted(self._inventory.devices),
            draining=self._draining,
        )

    def _say_state(self) -> None:
        for serial, device in self._inventory.devices.items():
            self._acquaint(device, serial)
        self._state_publisher.publish(self._state(self._phase))

    @property
    def _phase(self) -> WorkerPhase:
        if not self._found_all:
            return WorkerPhase.INIT
        leaving = self._draining is not None or self._stopping
        return WorkerPhase.DRAINING if leaving else WorkerPhase.READY

    def _repeat(self) -> None:
        self._bus.publish(
            WORKER_KINDS(worker=self.id),
            WorkerKinds(kinds={name: kind.info() for name, kind in self._kinds.items()}),
        )
        for device in self._inventory.devices.values():
            device.repeat()
