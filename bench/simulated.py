"""Workers without boards: they say what workers say, and do at once whatever is desired.

``python -m bench.simulated DEVICES [CHANGES]`` reads the URL of a worker from each line of its
input, and runs them all until the input ends. ``CHANGES`` a second their devices take up something
else, all together; with when it was as their reason, so that whoever sees it knows how old it is.
"""

from __future__ import annotations

import itertools
import logging
import random
import sys
import threading
import time
from typing import Any

from icebus.bus import BrokerAddress, Bus, Incoming, StatePublisher, Will
from icebus.schemas.components import (
    Heartbeat,
    WorkerHeartbeat,
    WorkerKinds,
    WorkerLoad,
    WorkerPhase,
    WorkerState,
)
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import Desired, DeviceReport, DeviceState
from icebus.schemas.ids import new_id
from icebus.schemas.kinds.pulsecount import FIRMWARE
from icebus.schemas.message import decode, now
from icebus.schemas.topics import (
    CONTROL_HEARTBEAT,
    DESIRED,
    DEVICE,
    WORKER_HEARTBEAT,
    WORKER_KINDS,
    WORKER_STATE,
)
from icebus.worker.states.kinds.pulsecount import PulseCount

TIMEOUT = 30.0

IDLE = (DeviceState.READY, DeviceState.TESTING, DeviceState.FLASHING)
"""What devices do by turns that nobody holds."""


class SimulatedWorker:
    """One worker, whose id is the user of the address.

    Args:
        address: of the broker.
        serials: of its devices.
        kinds: that it offers.

    Attributes:
        id: of the worker.
        session: of this run.
        bus: that it speaks through.
        desired: what control wants of each device.
        reports: what it reports of each device.
        changed: notified when something new is desired.
        echoing: whether it answers heartbeats.
    """

    def __init__(self, address: BrokerAddress, serials: list[str], kinds: WorkerKinds) -> None:
        self.id = address.user
        self.session = new_id()
        self.desired: dict[str, Desired] = {}
        self.changed = threading.Condition()
        self.echoing = True
        self._reporting = threading.Lock()
        self.reports = {serial: self._first_report(serial) for serial in serials}
        self._kinds = kinds
        will = Will(WORKER_STATE(worker=self.id), self._state(WorkerPhase.LOST))
        self.bus = Bus(address, self.id, will=will)
        self._state_publisher = StatePublisher(self.bus, WORKER_STATE, worker=self.id)
        self.bus.subscribe(DESIRED, self._on_desired, worker=self.id)
        self.bus.subscribe(CONTROL_HEARTBEAT, self._on_heartbeat)
        self.bus.on_connected(self._announce)
        self.publish_state(WorkerPhase.READY)

    def start(self) -> None:
        """Connect."""
        self.bus.connect(Deadline.after(TIMEOUT))

    def stop(self) -> None:
        """Say that it ends, and disconnect."""
        self._state_publisher.close(self._state(WorkerPhase.OFFLINE))
        self.bus.close(Deadline.after(TIMEOUT))

    def publish_state(self, phase: WorkerPhase) -> None:
        """Say how the worker is."""
        self._state_publisher.publish(self._state(phase))

    def report(self, serial: str, state: DeviceState, **fields: Any) -> None:
        """Report on a device; what is not given stays as it was reported before."""
        changes = {"state": state, "since": now(), "reason": "", **fields}
        with self._reporting:
            self.reports[serial] = self.reports[serial].model_copy(update=changes)
            self._publish_report(serial)

    def carry_out(self, desired: Desired) -> None:
        """Report that a device does what is desired of it."""
        if desired.quarantined is not None:
            state = DeviceState.QUARANTINED
        elif desired.reservation is None:
            state = DeviceState.READY
        else:
            state = DeviceState.SERVING
        self.report(desired.serial, state, **copied_fields(desired))

    def _first_report(self, serial: str) -> DeviceReport:
        return DeviceReport(
            serial=serial,
            state=DeviceState.READY,
            since=now(),
            session=self.session,
            chip="rp2040",
            firmware=FIRMWARE,
        )

    def _state(self, phase: WorkerPhase) -> WorkerState:
        return WorkerState(state=phase, session=self.session, serials=sorted(self.reports))

    def _announce(self) -> None:
        self.bus.publish(WORKER_KINDS(worker=self.id), self._kinds)
        for serial in self.reports:
            with self._reporting:  # or what was reported meanwhile would be followed by older news
                self._publish_report(serial)

    def _publish_report(self, serial: str) -> None:
        self.bus.publish(DEVICE(worker=self.id, serial=serial), self.reports[serial])

    def _on_heartbeat(self, incoming: Incoming) -> None:
        if incoming.payload and self.echoing:
            beat = decode(Heartbeat, incoming.payload)
            echo = WorkerHeartbeat(
                epoch=beat.epoch,
                sequence=beat.sequence,
                session=self.session,
                load=WorkerLoad(devices=len(self.reports)),
            )
            self.bus.publish(WORKER_HEARTBEAT(worker=self.id), echo, interval=beat.interval)

    def _on_desired(self, incoming: Incoming) -> None:
        if not incoming.payload:
            return
        desired = decode(Desired, incoming.payload)
        with self.changed:
            known = self.desired.get(desired.serial)
            if known is not None and desired.generation < known.generation:
                return
            self.desired[desired.serial] = desired
            self.changed.notify_all()
        # As a worker with boards: what is said again, as after a restart of the broker, is done.
        if desired != known and desired.serial in self.reports:
            self.carry_out(desired)


class Changes:
    """Has devices take up something else, at a steady rate.

    Args:
        workers: whose devices; may grow.
        rate: changes a second.
    """

    def __init__(self, workers: list[SimulatedWorker], rate: float) -> None:
        self._workers = workers
        self._rate = rate
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="changes", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        self._thread.join(TIMEOUT)

    def _run(self) -> None:
        chance = random.Random(0)
        begun = time.monotonic()
        for number in itertools.count():
            # Against the clock, so that a slow moment is made up for.
            if self._stopped.wait(max(0.0, begun + number / self._rate - time.monotonic())):
                return
            if self._workers:
                worker = chance.choice(self._workers)
                serial = chance.choice(sorted(worker.reports))
                worker.report(serial, chance.choice(IDLE), reason=f"{time.time():.3f}")


def copied_fields(desired: Desired) -> dict[str, Any]:
    """What a report repeats of what is desired."""
    return {
        "generation": desired.generation,
        "reservation": desired.reservation,
        "user": desired.user,
        "kind": desired.kind,
    }


def main() -> None:
    """Run the workers that standard input names."""
    logging.basicConfig(level=logging.ERROR)  # that the broker goes is part of what is measured
    kinds = WorkerKinds(kinds={PulseCount.kind: PulseCount.info()})
    workers: list[SimulatedWorker] = []
    changes = Changes(workers, float(sys.argv[2])) if sys.argv[2:] else None
    if changes is not None:
        changes.start()
    for line in sys.stdin:
        address = BrokerAddress.parse(line.strip())
        serials = [f"{address.user}-{number}" for number in range(int(sys.argv[1]))]
        worker = SimulatedWorker(address, serials, kinds)
        worker.start()
        workers.append(worker)
    if changes is not None:
        changes.stop()
    for worker in workers:
        worker.stop()


if __name__ == "__main__":
    main()
