"""What is gathered of a worker when somebody asks for its metrics: as things stand then."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from icebus.schemas.components import WorkerPhase
from icebus.schemas.devices import DeviceState
from icebus.schemas.supervision.facts import space_at
from icebus.schemas.supervision.registry import certificates, info
from icebus.worker.device.device_report import DeviceStatus
from icebus.worker.metrics.counting import SERIALS
from icebus.worker.metrics.facts import OF_USE, WorkerFacts


class WorkerCollector(Collector):
    """Metrics of a worker's state.

    Args:
        look: gives the worker as it stands.
        journals: the folder of its journals.
    """

    def __init__(self, look: Callable[[], WorkerFacts], journals: Path) -> None:
        self._look = look
        self._journals = journals

    def describe(self) -> Iterable[Metric]:
        """Nothing: it is registered before the worker has started."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        facts = self._look()
        yield info("icebus_worker", "Which worker.", worker=facts.name, version=version("icebus"))
        yield from _own(facts)
        yield from _boards(facts.boards)
        yield _gauge(
            "icebus_worker_journal_bytes",
            "Size of the journals of all boards.",
            size_of(self._journals),
        )
        yield _gauge(
            "icebus_worker_journal_free_bytes",
            "What is left of the disk that they are on.",
            space_at(self._journals).free,
        )
        yield certificates(
            "icebus_worker_certificate_end_timestamp_seconds", facts.broker_ends, facts.own_ends
        )


def _own(facts: WorkerFacts) -> Iterator[Metric]:
    phases = GaugeMetricFamily("icebus_worker_phase", "1 for what it does.", labels=["phase"])
    for phase in WorkerPhase:
        phases.add_metric([phase.value], phase is facts.phase)
    yield phases
    yield _gauge(
        "icebus_worker_broker_connected", "Whether it has its broker.", int(facts.connected)
    )
    if facts.heartbeat_age is not None:
        yield _gauge(
            "icebus_worker_heartbeat_age_seconds",
            "Seconds since control's last heartbeat.",
            facts.heartbeat_age,
        )


def _boards(boards: Mapping[str, DeviceStatus]) -> Iterator[Metric]:
    by_state = Counter(status.state for status in boards.values())
    states = GaugeMetricFamily("icebus_worker_boards", "Boards by state.", labels=["state"])
    for state in DeviceState:
        states.add_metric([state.value], by_state[state])
    yield states
    serving = GaugeMetricFamily(
        "icebus_worker_boards_serving", "Boards that serve, by kind.", labels=["kind"]
    )
    for kind, count in Counter(s.kind for s in boards.values() if s.kind is not None).items():
        serving.add_metric([kind], count)
    yield serving
    yield _gauge(
        "icebus_worker_queued_evaluations",
        "Evaluations that wait or are measured.",
        sum(status.load for status in boards.values()),
    )
    usable = GaugeMetricFamily(
        "icebus_worker_board_usable",
        "Whether a board is there and works, as far as is known.",
        labels=["serial"],
    )
    for serial in sorted(boards)[:SERIALS]:
        usable.add_metric([serial], boards[serial].state in OF_USE)
    yield usable


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(name, what, value=value)


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder; those that vanish meanwhile have none."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    total += entry.stat(follow_symlinks=False).st_size
                except OSError:
                    continue
    except OSError:
        return 0
    return total
