"""What the metrics of all programs share: a registry of their own, the process, certificates.

Only this and what a program has in its package ``metrics`` imports prometheus_client, which is an
extra: nothing of it is loaded where no metrics are wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from icebus.schemas.programs.installation import not_importable

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
"""Upper ends of the buckets of durations: from an answer of control's, a millisecond or two, to a
queue of 64 evaluations of several seconds each."""

OTHER = "other"
"""Label in place of what is not known: whatever others make up, the number of series stays."""


def open_registry(wanted: str | None) -> CollectorRegistry | None:
    """Where a program's metrics are kept; it has those of the process.

    Args:
        wanted: where they are to be told; empty or None for nowhere, and there is none.

    Raises:
        ProgramMissing: the extra is not installed.
    """
    if not wanted:
        return None
    try:
        from prometheus_client import (
            CollectorRegistry,
            ProcessCollector,
            disable_created_metrics,
        )
    except ImportError as error:
        raise not_importable(error, "--metrics", "metrics") from error
    # When each series began would be half of all that is told.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    return registry


def info(name: str, what: str, **labels: str) -> InfoMetricFamily:
    """A metric that is always 1, and says by its labels which program this is."""
    from prometheus_client.core import InfoMetricFamily

    return InfoMetricFamily(name, what, labels)


def certificates(name: str, broker: float | None, own: float | None) -> GaugeMetricFamily:
    """When certificates end, as seconds since 1970; of those that there are.

    Args:
        name: of the metric.
        broker: the end of the broker's; None without TLS.
        own: the end of the program's.
    """
    from prometheus_client.core import GaugeMetricFamily

    told = GaugeMetricFamily(name, "When a certificate ends.", labels=["certificate"])
    for whose, ends in (("broker", broker), ("own", own)):
        if ends is not None:
            told.add_metric([whose], ends)
    return told
