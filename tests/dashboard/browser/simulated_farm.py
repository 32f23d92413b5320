"""A farm for the page to look at: a broker with its service, a control, workers without boards."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from bench.simulated import SimulatedWorker
from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.process import Child
from icebus.broker.service.service import BrokerService
from icebus.bus import BrokerAddress, Bus, wait_for
from icebus.client import PulseCountClient
from icebus.client._evaluating.reporting.tally import Tally
from icebus.schemas.calls import event_json
from icebus.schemas.components import WorkerKinds
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import IcebusError
from icebus.schemas.ids import BROKER, new_id
from icebus.schemas.kinds.pulsecount import KIND, PulseCountResult
from icebus.schemas.log_records import LogRecord, RecentLog, RecordLevel
from icebus.schemas.message import now
from icebus.schemas.throughput import Throughput
from icebus.schemas.topics import CONTROL_THROUGHPUT, DEVICE_LOG, EVENT, EXPERIMENT, LOG
from icebus.worker.states.kinds.pulsecount import PulseCount

CONTROL = "main"
WORKER = "w1"

START = 30.0
STOP = 10.0

LABELS = ("a", "b")
"""Racks of the boards, in turns."""


def _result(serial: str, pulses: int) -> PulseCountResult:
    return PulseCountResult(
        serial=serial,
        evaluation=new_id(),
        batch="b1",
        bitstream=f"circuit-{pulses}.bin",
        sha256="0" * 64,
        at=now(),
        pulses=pulses,
        exact=True,
        upload=0.1,
        window=1.0,
    )


class SimulatedFarm:
    """Runs one.

    Args:
        broker: that runs already and knows ``CONTROL``, ``WORKER`` and the broker's service.
        directory: for control's files.
        boards: how many.
    """

    def __init__(self, broker: EmbeddedBroker, directory: Path, boards: int) -> None:
        self.broker = broker
        self._directory = directory
        self._service = BrokerService(BrokerDirectory(broker.directory), broker.address(BROKER))
        self._service.start()
        self.control = self._start_control()
        self.serials = [f"{WORKER}-{number:04}" for number in range(boards)]
        kinds = WorkerKinds(kinds={KIND: PulseCount.info()})
        self.worker = SimulatedWorker(broker.address(WORKER), self.serials, kinds)
        self.worker.start()
        for number, serial in enumerate(self.serials):
            self.report(serial, DeviceState.READY, {"rack": LABELS[number % len(LABELS)]})

    def address(self, name: str) -> BrokerAddress:
        """How somebody connects."""
        return self.broker.address(name)

    def client(self, name: str) -> PulseCountClient:
        """Somebody's client, to be used in a block."""
        return PulseCountClient(self.broker.address(name).url())

    def report(
        self,
        serial: str,
        state: DeviceState,
        labels: Mapping[str, str] | None = None,
        reason: str = "",
    ) -> None:
        """Have the worker report on a board."""
        known = self.worker.reports[serial].labels
        self.worker.report(serial, state, labels=dict(labels or known), reason=reason)

    def measure(self, user: str, reservation: str, serial: str, pulses: int) -> None:
        """Have the worker tell a result, as if a board had measured something."""
        result = _result(serial, pulses)
        topic = EVENT(
            user=user, reservation=reservation, sender=WORKER, serial=serial, event="results"
        )
        self.worker.bus.publish(topic, event_json(0, result.model_dump_json()))

    def tell_experiment(
        self, user: str, reservation: str, serials: Sequence[str], *, done: int, total: int
    ) -> None:
        """Have a client of theirs tell of an experiment, as one does that has run for a while."""
        tally = Tally(reservation, KIND)
        tally.begin(total, now() - timedelta(minutes=1))
        for pulses in range(done):
            tally.add(_result(serials[pulses % len(serials)], pulses), now())
        told = tally.told(now())
        assert told is not None
        bus = Bus(self.broker.address(user), user)
        bus.connect(Deadline.after(START))
        topic = EXPERIMENT(user=user, client="earlier", reservation=reservation)
        wait_for(bus.publish(topic, told), Deadline.after(STOP), "the broker")
        bus.close(Deadline.after(STOP))

    def tell_throughput(self, results: Sequence[int], failures: Sequence[int]) -> None:
        """Have control tell what ended in each of the minutes until now."""
        minute = timedelta(minutes=1)
        began = now().replace(second=0, microsecond=0) - len(results) * minute
        told = Throughput(began=began, results=list(results), failures=list(failures))
        bus = Bus(self.broker.address(CONTROL), "counts")
        bus.connect(Deadline.after(START))
        wait_for(bus.publish(CONTROL_THROUGHPUT(), told), Deadline.after(STOP), "the broker")
        bus.close(Deadline.after(STOP))

    def log(self, message: str, serial: str, holder: tuple[str, str] | None = None) -> None:
        """Have the worker log a warning about a board: as it does, for administrators.

        Args:
            message: what it says.
            serial: of the board.
            holder: user and reservation, who are told instead, as one that is held tells them.
        """
        line = LogRecord(
            id=new_id(),
            at=now(),
            level=RecordLevel.WARNING,
            logger="icebus.worker",
            message=message,
            fields={"serial": serial},
        )
        if holder is None:
            self.worker.bus.publish(LOG(role="worker", id=WORKER, level=line.level), line)
            return
        user, reservation = holder
        topic = DEVICE_LOG(user=user, reservation=reservation, sender=WORKER, serial=serial)
        self.worker.bus.publish(topic, RecentLog(lines=[line]))

    def wait_ready(self, name: str) -> None:
        """Wait until every board can be reserved."""
        deadline = Deadline.after(START)
        with self.client(name) as client:
            while True:
                with contextlib.suppress(IcebusError):
                    if len(client.available(KIND)) == len(self.serials):
                        return
                deadline.check("all boards")

    def stop_broker(self) -> None:
        """Kill the broker."""
        self.broker.child.process.kill()
        self.broker.child.process.wait(STOP)

    def start_broker(self) -> None:
        """Start it again, on the same port."""
        self.broker.start(Deadline.after(START))

    def stop_control(self) -> None:
        """Kill control."""
        self.control.process.kill()
        self.control.process.wait(STOP)

    def start_control(self) -> None:
        """Start it again."""
        self.control = self._start_control()

    def stop(self) -> None:
        """Take it down, but for the broker."""
        self.worker.stop()
        self.control.stop(Deadline.after(STOP))
        self._service.stop(Deadline.after(STOP))

    def _start_control(self) -> Child:
        return Child(
            [
                *(sys.executable, "-m", "icebus.control.cli", "--id", CONTROL),
                *("--database", f"sqlite:///{self._directory / 'control.db'}"),
            ],
            self._directory / "control.log",
            {"ICEBUS_BROKER": self.broker.address(CONTROL).url()},
        )
