"""Workers without boards: they say what workers say, and do at once whatever is desired.

``python -m bench.simulated DEVICES`` reads the URL of a worker from each line of its input, and
runs them all until the input ends.
"""

from __future__ import annotations

import logging
import sys

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


class SimulatedWorker:
    """One worker: its id is the user of the address, its devices are called after it."""

    def __init__(self, address: BrokerAddress, devices: int) -> None:
        self.id = address.user
        self._session = new_id()
        self._desired: dict[str, Desired | None] = {
            f"{self.id}-{number}": None for number in range(devices)
        }
        will = Will(WORKER_STATE(worker=self.id), self._state(WorkerPhase.LOST))
        self._bus = Bus(address, f"simulated-{self.id}", will=will)
        self._state_publisher = StatePublisher(self._bus, WORKER_STATE, worker=self.id)
        self._bus.subscribe(DESIRED, self._on_desired, worker=self.id)
        self._bus.subscribe(CONTROL_HEARTBEAT, self._on_heartbeat)
        self._bus.on_connected(self._announce)
        self._state_publisher.publish(self._state(WorkerPhase.READY))

    def start(self) -> None:
        """Connect."""
        self._bus.connect(Deadline.after(TIMEOUT))

    def stop(self) -> None:
        """Say goodbye."""
        self._state_publisher.close(self._state(WorkerPhase.OFFLINE))
        self._bus.close(Deadline.after(TIMEOUT))

    def _state(self, phase: WorkerPhase) -> WorkerState:
        return WorkerState(state=phase, session=self._session, serials=sorted(self._desired))

    def _announce(self) -> None:
        kinds = WorkerKinds(kinds={PulseCount.kind: PulseCount.info()})
        self._bus.publish(WORKER_KINDS(worker=self.id), kinds)
        for serial in self._desired:
            self._report(serial)

    def _on_heartbeat(self, incoming: Incoming) -> None:
        if incoming.payload:
            beat = decode(Heartbeat, incoming.payload)
            echo = WorkerHeartbeat(
                epoch=beat.epoch,
                sequence=beat.sequence,
                session=self._session,
                load=WorkerLoad(devices=len(self._desired)),
            )
            self._bus.publish(WORKER_HEARTBEAT(worker=self.id), echo, interval=beat.interval)

    def _on_desired(self, incoming: Incoming) -> None:
        if incoming.payload:
            desired = decode(Desired, incoming.payload)
            known = self._desired.get(desired.serial)
            if known is None or desired.generation >= known.generation:
                self._desired[desired.serial] = desired
                self._report(desired.serial)

    def _report(self, serial: str) -> None:
        desired = self._desired[serial]
        held = desired is not None and desired.reservation is not None
        report = DeviceReport(
            serial=serial,
            state=DeviceState.SERVING if held else DeviceState.READY,
            since=now(),
            session=self._session,
            generation=desired.generation if desired else 0,
            reservation=desired.reservation if desired else None,
            user=desired.user if desired else None,
            kind=desired.kind if desired else None,
            chip="rp2040",
            firmware=FIRMWARE,
        )
        self._bus.publish(DEVICE(worker=self.id, serial=serial), report)


def main() -> None:
    """Run the workers that standard input names."""
    logging.basicConfig(level=logging.ERROR)  # that the broker goes is part of what is measured
    workers = []
    for line in sys.stdin:
        worker = SimulatedWorker(BrokerAddress.parse(line.strip()), int(sys.argv[1]))
        worker.start()
        workers.append(worker)
    for worker in workers:
        worker.stop()


if __name__ == "__main__":
    main()
