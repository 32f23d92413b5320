"""What is gathered of the farm when somebody asks control for its metrics: as things stand then."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Protocol

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from icebus.control.metrics.facts import UNANSWERING, FarmFacts, Reservations
from icebus.schemas.components import WorkerPhase
from icebus.schemas.database import DatabaseCause
from icebus.schemas.devices import DeviceState
from icebus.schemas.operations.reservations import ReservationState
from icebus.schemas.supervision.registry import certificates, info


class ObservedControl(Protocol):
    """The control that is looked at, from another thread."""

    id: str

    def farm_facts(self) -> FarmFacts | None:
        """The farm as it stands; None when that can't be had within a second or two."""

    @property
    def connected(self) -> bool:
        """Whether it has its broker."""

    @property
    def database_trouble(self) -> DatabaseCause | None:
        """Why its database can't be used; None while it can."""

    @property
    def certificate_ends(self) -> tuple[float | None, float | None]:
        """When the broker's certificate and its own end, as seconds since 1970."""


class ControlCollector(Collector):
    """Metrics of the farm.

    A control that is too busy to say how the farm is has the facts of before told again: their age
    is a metric, too.

    Args:
        control: that is looked at.
    """

    def __init__(self, control: ObservedControl) -> None:
        self._control = control
        self._facts: FarmFacts | None = None

    def describe(self) -> Iterable[Metric]:
        """Nothing: it is registered before control serves."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        control = self._control
        known = {"control": control.id, "version": version("icebus")}
        yield info("icebus_control", "Which control.", **known)
        yield _gauge(
            "icebus_control_broker_connected", "Whether it has its broker.", control.connected
        )
        trouble = control.database_trouble
        up = trouble in (None, DatabaseCause.SLOW)
        yield _gauge("icebus_control_database_up", "Whether its database can be used.", up)
        yield _gauge(
            "icebus_control_database_slow",
            "Whether it answers too slowly.",
            trouble is DatabaseCause.SLOW,
        )
        yield certificates(
            "icebus_control_certificate_end_timestamp_seconds", *control.certificate_ends
        )
        self._facts = control.farm_facts() or self._facts
        if self._facts is not None:
            yield from _farm(self._facts)


def _farm(facts: FarmFacts) -> Iterator[Metric]:
    yield _gauge(
        "icebus_control_facts_age_seconds",
        "How old it is what is told of devices, workers, reservations and the lease.",
        time.monotonic() - facts.at,
    )
    yield _gauge("icebus_control_leading", "Whether this control leads.", facts.leading)
    yield _by(
        "icebus_control_devices",
        "Devices by what they do, and what for.",
        ("state", "kind"),
        {(state.value, ""): 0 for state in DeviceState} | dict(facts.devices),
    )
    phases = [*(phase.value for phase in WorkerPhase), UNANSWERING]
    workers = dict.fromkeys(phases, 0) | dict(facts.workers)
    yield _by(
        "icebus_control_workers",
        "Workers by state.",
        ("state",),
        {(state,): count for state, count in workers.items()},
    )
    yield _by(
        "icebus_control_worker_heartbeat_age_seconds",
        "Seconds since a worker last answered a heartbeat.",
        ("worker",),
        {(worker,): age for worker, age in facts.heartbeat_ages.items()},
    )
    yield _gauge(
        "icebus_control_claimed_devices",
        "Devices that several workers say they have.",
        facts.claimed,
    )
    if facts.reservations is not None:
        yield from _reservations(facts.reservations)


def _reservations(found: Reservations) -> Iterator[Metric]:
    live = [state.value for state in ReservationState if state is not ReservationState.ENDED]
    yield _by(
        "icebus_control_reservations",
        "Reservations that have not ended, by state and kind.",
        ("state", "kind"),
        {(state, ""): 0 for state in live} | dict(found.by_state),
    )
    yield _gauge("icebus_control_queue_length", "Reservations that wait.", found.queued)
    yield _gauge(
        "icebus_control_queue_oldest_wait_seconds",
        "How long the oldest of them has waited; 0 for an empty queue.",
        found.oldest_wait,
    )


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(name, what, value=float(value))


def _by(
    name: str,
    what: str,
    labels: tuple[str, ...],
    values: Mapping[tuple[str], float] | Mapping[tuple[str, str], float],
) -> Metric:
    told = GaugeMetricFamily(name, what, labels=labels)
    for named, value in values.items():
        told.add_metric(named, value)
    return told
