"""The worker: finds boards, follows what control desires, lets clients call."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from functools import partial
from pathlib import Path

from icebus.broker.tls.authority import ends_of
from icebus.bus import (
    Allowance,
    BrokerAddress,
    Bus,
    FromUsers,
    Incoming,
    LogPublisher,
    SingleRun,
)
from icebus.schemas.components import Heartbeat, WorkerPhase
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import Desired, WorkerDesired
from icebus.schemas.errors import AlreadyRunning, DeviceNotHeld
from icebus.schemas.files import ENCODING_PROPERTY, IDENTITY
from icebus.schemas.ids import new_id
from icebus.schemas.message import decode
from icebus.schemas.topics import (
    BLOB,
    CALL,
    CONTROL_HEARTBEAT,
    DESIRED,
    DEVICE,
    WORKER_DESIRED,
    Role,
)
from icebus.schemas.wording import counted
from icebus.worker import allowances
from icebus.worker.blobs import BlobStore
from icebus.worker.calls import Calls
from icebus.worker.device.device import CHECK_EVERY, Device
from icebus.worker.device_logs import DeviceLogs
from icebus.worker.firmware import FirmwarePolicy
from icebus.worker.hardware.board import Discovery, Snapshot
from icebus.worker.heartbeats import Heartbeats
from icebus.worker.holders import Holders
from icebus.worker.installed import Installed
from icebus.worker.inventory import Inventory
from icebus.worker.labels import Labels
from icebus.worker.loop import Loop
from icebus.worker.metrics.facts import WorkerFacts
from icebus.worker.metrics.observer import UNOBSERVED, Observer
from icebus.worker.old_journals import remove_old_journals
from icebus.worker.publishing import Publishing, last_will
from icebus.worker.work import Work

log = logging.getLogger(__name__)

CORRECTION_INTERVAL = 1.0
"""Seconds between corrections of what somebody else reports in our name, as of our own state."""

NO_SESSION = 0
"""Seconds that the broker keeps what comes for a worker that is away: what is desired is retained,
and requests are sent again.

Mosquitto 2.0 corrupts its memory when it reads anew who is known while it keeps something for
somebody with a certificate who is away: ``security_default.c`` ends a connection that is not there,
which enters the session a second time in ``session_expiry.c``. Mended in 2.1.
"""

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
        check_every: seconds between checks of a board that nobody uses, about; 0 for never.
        on_failure: called, on any thread, when the worker can't go on: it is to be stopped.
        installed: what its devices may be reserved for, and the firmware it knows; all there is
            where that is not said.
        policy: what becomes of firmware on boards that could be newer.
        on_other: called, on any thread, when another run of this name is there after all: this one
            is to be stopped.
        observer: is told, on the devices' loop, what people want counted.
    """

    def __init__(
        self,
        address: BrokerAddress,
        discoveries: Sequence[Discovery],
        directory: Path,
        labels: Labels | None = None,
        check_every: float = CHECK_EVERY,
        on_failure: Callable[[str], None] = log.critical,
        installed: Installed | None = None,
        policy: FirmwarePolicy = FirmwarePolicy.KEEP,
        on_other: Callable[[AlreadyRunning], None] = lambda other: log.critical("%s", other),
        observer: Observer = UNOBSERVED,
    ) -> None:
        self.id = address.user
        self._own_certificate = address.certificate
        self._observer = observer
        self._heard_at: float | None = None
        self.session = new_id()
        self._directory = directory
        self._labels = labels or Labels()
        self._check_every = check_every
        self._policy = policy
        self._discoveries = discoveries
        self._installed = installed or Installed.load()
        self._blobs = BlobStore()
        self._bus = Bus(
            address,
            f"worker-{self.id}",
            will=last_will(self.id, self.session),
            session_expiry=NO_SESSION,
        )
        self._loop = Loop("devices", on_failure, self._bus.together)
        self._heartbeats = Heartbeats(self._loop, self._answer_heartbeat, on_failure)
        self._inventory = Inventory(self._make_device, self._publish_state)
        self._found_all = False
        self._on_ready: Callable[[], None] | None = None
        self._draining: str | None = None
        self._stopping = False
        self._lock = threading.Lock()
        self._desired: dict[str, Desired] = {}
        self._holders = Holders()
        self._found: dict[int, Snapshot] = {}
        self._retained: set[str] = set()
        self._single_run = SingleRun(self._bus, Role.WORKER, self.session, on_other)
        self._publishing = Publishing(self._bus, self.id, self.session)
        # What users write comes on a connection of its own: however much that is, at the broker or
        # on its way, heartbeats and what control wants never wait behind it. Answers go out on the
        # other, where the broker's acknowledgements do not wait behind a flood.
        self._requests = Bus(address, f"worker-{self.id}-calls", session_expiry=NO_SESSION)
        work = Work(self._holders.of, lambda: self._holders.all)
        self._calls = Calls(self._bus, self.id, self._inventory, self._installed, self._blobs, work)
        self._device_logs = DeviceLogs(self._bus, self.id)
        self._log: LogPublisher | None = None
        self._our_session = f'"session":"{self.session}"'.encode()
        self._correcting = False

    def start(self, deadline: Deadline) -> None:
        """Connect, and begin to look for boards.

        Raises:
            BrokerUnavailable: no broker answers.
            NotAuthorized: it does not know us.
            AlreadyRunning: another worker has this name.
        """
        self._bus.connect(deadline)
        try:
            self._single_run.begin(deadline)
        except BaseException:
            # Without a word of ours, for all that is said under that name is another's.
            self._bus.close(deadline)
            raise
        self._bus.subscribe(DESIRED, self._on_desired, worker=self.id)
        self._bus.subscribe(WORKER_DESIRED, self._on_worker_desired, worker=self.id)
        self._bus.subscribe(CONTROL_HEARTBEAT, self._on_heartbeat)
        self._bus.subscribe(DEVICE, self._on_own_device, worker=self.id)
        files = FromUsers(lambda user: allowances.blobs(self._holders.of(user)), self._calls.refuse)
        self._requests.subscribe(BLOB, self._on_blob, files, worker=self.id)
        asked = FromUsers(self._allow_calls, self._calls.refuse)
        self._requests.subscribe(CALL, self._calls.handle, asked, worker=self.id)
        self._requests.connect(deadline)
        self._bus.on_connected(self._publish_again)
        self._publish_state()
        self._loop.start()
        for number, discovery in enumerate(self._discoveries):
            discovery.start(partial(self._on_boards, number))

    def publish_log(self) -> None:
        """Publish what this process logs from now on: for a program that is this worker only."""
        self._log = LogPublisher(self._bus, Role.WORKER, self.id, self._device_logs.hear)

    def on_ready(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the loop once all that finds boards has said what is there."""

        def register() -> None:
            self._on_ready = callback
            if self._found_all:
                callback()

        self._loop.post(register)

    @property
    def loops(self) -> dict[str, Callable[[Callable[[], None]], None]]:
        """What has to turn for the worker to be alive: by name, how each is asked to."""
        return {
            "the devices' loop": self._loop.post,
            "what is heard of control": self._bus.call_soon,
            "what is heard of users": self._requests.call_soon,
        }

    def status(self) -> str:
        """What it does, in some words."""
        if not self._bus.connected:
            return "the broker is away"
        states = [device.status for device in self._inventory.devices.values()]
        serving = sum(each.hold is not None for each in states)
        return f"{self._phase.value}: {counted(len(states), 'board')}, {serving} serving"

    def facts(self) -> WorkerFacts:
        """How it stands, for its metrics. Any thread."""
        heard_at = self._heard_at
        return WorkerFacts(
            name=self.id,
            phase=self._phase,
            connected=self._bus.connected,
            heartbeat_age=None if heard_at is None else time.monotonic() - heard_at,
            boards={serial: each.status for serial, each in self._inventory.devices.items()},
            broker_ends=self._bus.certificate_ends,
            own_ends=ends_of(self._own_certificate),
        )

    def stop(self, deadline: Deadline) -> None:
        """End every device's work with an explicit outcome, say that it is offline, disconnect.

        What is on a board is measured to its end, if that is not far; what waits fails.
        """
        self._calls.close()
        self._stopping = True
        self._loop.post(self._publish_state)
        for discovery in self._discoveries:
            discovery.stop()
        finishing = [device.finish() for device in self._inventory.all]
        wait(finishing, min(FINISH_SECONDS, deadline.remaining))
        self._inventory.stop()
        if not self._loop.stop(Deadline.after(min(LOOP_SECONDS, deadline.remaining))):
            log.error("the devices did not stop in time")
        self._publishing.close(self._inventory.devices, self._draining)
        if self._log is not None:
            self._log.close()
        self._requests.close(deadline)
        self._bus.close(deadline)

    def _allow_calls(self, user: str) -> Allowance:
        return allowances.calls(self._holders.of(user), self._calls.overworked(user))

    # --- boards -------------------------------------------------------------------------------

    def _on_boards(self, discovery: int, boards: Snapshot) -> None:
        self._loop.post(lambda: self._update(discovery, boards))

    def _update(self, discovery: int, boards: Snapshot) -> None:
        self._found[discovery] = boards
        self._inventory.update([board for found in self._found.values() for board in found])
        if not self._found_all and len(self._found) == len(self._discoveries):
            self._found_all = True
            self._publish_state()
            if self._on_ready is not None:
                self._on_ready()
            for serial in self._retained:
                self._forget(serial)
            with self._lock:
                known = {*self._desired, *(each.name for each in self._inventory.all)}
            # On the loop, where no device opens one meanwhile.
            remove_old_journals(self._directory, known)

    def _on_retained_report(self, serial: str) -> None:
        """This worker reported a device before it was restarted; it may be gone by now."""
        if not self._found_all:
            self._retained.add(serial)
        else:
            self._forget(serial)

    def _forget(self, serial: str) -> None:
        if serial not in self._inventory.devices:
            self._publishing.forget(serial)

    def _make_device(self, serial: str | None, path: str) -> Device:
        device = Device(
            self._loop,
            serial,
            path,
            self._installed,
            self._publishing,
            self.session,
            self._directory,
            self._labels.at,
            self._check_every,
            self._policy,
            self._observer,
        )
        if serial is not None:
            self._pass_on_desired(device, serial)
        return device

    def _pass_on_desired(self, device: Device, serial: str) -> None:
        with self._lock:
            desired = self._desired.get(serial)
        if desired is not None:
            device.desire(desired)

    # --- what is received (on the bus's dispatcher) -------------------------------------------

    def _on_desired(self, incoming: Incoming) -> None:
        serial = incoming.ids["serial"]
        if not incoming.payload:
            if not incoming.retained:
                self._desire_nothing(serial)
            return
        desired = decode(Desired, incoming.payload)
        if desired.serial != serial:
            log.warning("desired state of %s on the topic of %s", desired.serial, serial)
            return
        with self._lock:
            known = self._desired.get(serial)
            if known is not None and known.generation > desired.generation:
                return
            self._desired[serial] = desired
            self._holders.change(known, desired)
        self._device_logs.on_desired(serial, desired)
        device = self._inventory.devices.get(serial)
        if device is not None:
            device.desire(desired)

    def _desire_nothing(self, serial: str) -> None:
        """Control wants nothing of a device any more: it is another worker's, or forgotten."""
        with self._lock:
            known = self._desired.pop(serial, None)
            self._holders.change(known, None)
        self._device_logs.on_desired(serial, None)
        device = self._inventory.devices.get(serial)
        if known is not None and device is not None:
            device.desire(
                Desired(
                    serial=serial,
                    generation=known.generation,
                    reboot=known.reboot,
                    reflash=known.reflash,
                )
            )

    def _on_worker_desired(self, incoming: Incoming) -> None:
        wanted = decode(WorkerDesired, incoming.payload) if incoming.payload else WorkerDesired()
        if wanted.draining != self._draining:
            self._draining = wanted.draining
            log.info("draining: %s", "no more" if wanted.draining is None else wanted.draining)
            self._loop.post(self._publish_state)
        if not incoming.payload and not incoming.retained and not self._stopping:
            log.warning("control has retired this worker, which is here: it says all anew")
            # First, for who knows of devices and of no worker takes them for what was left behind.
            self._loop.post(self._publish_state)
            self._publish_again()

    def _on_heartbeat(self, incoming: Incoming) -> None:
        if incoming.payload:
            self._heartbeats.take(decode(Heartbeat, incoming.payload))

    def _answer_heartbeat(self, beat: Heartbeat) -> None:
        self._heard_at = time.monotonic()
        statuses = [device.status for device in self._inventory.devices.values()]
        self._publishing.heartbeat(beat, statuses)

    def _on_own_device(self, incoming: Incoming) -> None:
        if not incoming.payload:
            return
        ours = self._our_session in incoming.payload
        if incoming.retained or not ours:
            self._loop.post(partial(self._on_retained_report, incoming.ids["serial"]))
        if not incoming.retained and not ours and not self._correcting:
            # Another run of this name, which is to end, or whose last words come late.
            self._correcting = True
            self._bus.call_later(CORRECTION_INTERVAL, self._correct)

    def _correct(self) -> None:
        self._correcting = False
        if not self._stopping:
            log.warning("correcting what another run of this worker reported")
            self._publish_again()

    def _on_blob(self, incoming: Incoming) -> None:
        user = incoming.ids["user"]
        if not self._holders.of(user):
            raise DeviceNotHeld(f"{user} holds no device of worker {self.id}, so no file is taken")
        encoding = incoming.properties.get(ENCODING_PROPERTY, IDENTITY)
        self._blobs.put(user, incoming.ids["sha256"], incoming.payload, encoding)

    # --- what the worker publishes of itself --------------------------------------------------

    def _publish_state(self) -> None:
        for serial, device in self._inventory.devices.items():
            self._pass_on_desired(device, serial)
        self._publishing.state(self._phase, self._inventory.devices, self._draining)

    @property
    def _phase(self) -> WorkerPhase:
        if not self._found_all:
            return WorkerPhase.INIT
        leaving = self._draining is not None or self._stopping
        return WorkerPhase.DRAINING if leaving else WorkerPhase.READY

    def _publish_again(self) -> None:
        try:
            self._publishing.kinds(self._installed.kinds)
        except Exception:  # a kind's mistake must not keep the devices from being reported
            log.exception("the kinds could not be published")
        for device in self._inventory.devices.values():
            device.report_again()
