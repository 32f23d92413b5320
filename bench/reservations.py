"""Reserving and releasing boards that need no other firmware."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from bench.farm import Farm
from bench.measure import Measure, median, quantile
from icebus.bus import BrokerAddress, Bus, Incoming
from icebus.client import PulseCountClient
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.message import decode
from icebus.schemas.topics import DEVICE

RESERVE = {1: ("2,050", 50.0), 8: ("2,100", 60.0), 32: ("2,260", 100.0)}
"""Incumbent's and ours, in ms, by boards."""

TIMEOUT = 20.0


class Devices:
    """What the farm's devices are doing, as anybody can read it."""

    def __init__(self, url: str) -> None:
        self._changed = threading.Condition()
        self._states: dict[str, DeviceState] = {}
        self._bus = Bus(BrokerAddress.parse(url), "bench-devices")
        self._bus.subscribe(DEVICE, self._on_report)
        self._bus.connect(Deadline.after(TIMEOUT))

    def _on_report(self, incoming: Incoming) -> None:
        if incoming.payload:
            report = decode(DeviceReport, incoming.payload)
            with self._changed:
                self._states[report.serial] = report.state
                self._changed.notify_all()

    def wait_ready(self, number: int) -> None:
        """Wait until so many are ready."""

        def ready() -> bool:
            return list(self._states.values()).count(DeviceState.READY) >= number

        with self._changed:
            if not self._changed.wait_for(ready, TIMEOUT):
                raise TimeoutError(f"the devices are not ready: {self._states}")

    def close(self) -> None:
        """Stop listening."""
        self._bus.close(Deadline.after(TIMEOUT))


def reserve(farm: Farm, client: PulseCountClient, boards: int, rounds: int) -> Iterator[Measure]:
    """From asking to every board serving, and from letting go to every board ready again."""
    devices = Devices(farm.url)
    taken, released = [], []
    for _ in range(rounds + 1):
        devices.wait_ready(farm.shape.boards)
        begun = time.monotonic()
        reservation = client.reserve(boards)
        taken.append(time.monotonic() - begun)
        begun = time.monotonic()
        reservation.release()
        devices.wait_ready(farm.shape.boards)
        released.append(time.monotonic() - begun)
    devices.close()
    # The first round pays for what is loaded once.
    del taken[0], released[0]
    number = "1 board" if boards == 1 else f"{boards} boards"
    incumbent, target = RESERVE[boards]
    yield Measure(f"reserve {number}, p50", median(taken) * 1e3, "ms", target, incumbent=incumbent)
    yield Measure(f"reserve {number}, p90", quantile(taken, 0.9) * 1e3, "ms")
    yield Measure(
        f"release {number} → ready, p50", median(released) * 1e3, "ms", 50.0, incumbent="2,000"
    )
