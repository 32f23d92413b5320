"""The pages that a program tells on its endpoint: its health, and its metrics."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from icebus.schemas.supervision.endpoint import Cached, MakePage, Page
from icebus.schemas.supervision.health import Severity, Verdict

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

HEALTH_CACHED = 2.0
"""Seconds that a verdict is told again: it takes a connection to the broker to find one."""

METRICS_CACHED = 1.0
"""Seconds that metrics are told again: who scrapes does so every 15 seconds, and each of several
servers gets values of the same moment."""

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The format that every version of Prometheus reads."""


def health_page(look: Callable[[], Verdict]) -> MakePage:
    """The verdict as JSON: 200 when ok or a warning, else 503.

    Args:
        look: gives it; may take seconds.
    """

    def make() -> Page:
        verdict = look()
        bad = verdict.severity in (Severity.CRITICAL, Severity.UNKNOWN)
        status = HTTPStatus.SERVICE_UNAVAILABLE if bad else HTTPStatus.OK
        body = json.dumps(verdict.document).encode() + b"\n"
        return Page(body, "application/json", status)

    return Cached(make, HEALTH_CACHED)


def metrics_page(registry: CollectorRegistry) -> MakePage:
    """All metrics, as Prometheus reads them.

    Args:
        registry: that has them.
    """
    from prometheus_client import generate_latest

    def make() -> Page:
        return Page(generate_latest(registry), METRICS_TYPE)

    return Cached(make, METRICS_CACHED)
