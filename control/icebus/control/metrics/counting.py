"""Counts requests, for Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from icebus.control.metrics.observer import Observer
from icebus.control.operations.requests.table import ADMINISTRATORS, USERS
from icebus.schemas.supervision.registry import OTHER, SECONDS

OPERATIONS: Final = frozenset(
    operation.name for table in (USERS, ADMINISTRATORS) for operation in table.values()
)
"""Of which there are series; what else is asked for is one."""


class Counting(Observer):
    """Counts. Any thread.

    Args:
        registry: where the metrics are kept.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "icebus_control_requests",
            "Requests that this control answered: ok, or the code of the error.",
            ["operation", "outcome"],
            registry=registry,
        )
        self._durations = Histogram(
            "icebus_control_request_duration_seconds",
            "From the arrival of a request to its answer; those that were not taken are not there.",
            ["operation"],
            buckets=SECONDS,
            registry=registry,
        )
        for operation in sorted(OPERATIONS):
            self._requests.labels(operation, "ok")

    def answered(self, operation: str, outcome: str, seconds: float) -> None:
        """A request was answered."""
        name = known(operation)
        self._requests.labels(name, outcome).inc()
        self._durations.labels(name).observe(seconds)

    def refused(self, operation: str, outcome: str) -> None:
        """A request was not taken."""
        self._requests.labels(known(operation), outcome).inc()


def known(operation: str) -> str:
    """The operation if there is such a one: whoever asks may call it anything."""
    return operation if operation in OPERATIONS else OTHER
