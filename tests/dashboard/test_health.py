"""The health of a dashboard: what is judged, and what is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from icebus.client.dashboard.health import Facts, judge, look
from icebus.schemas.supervision.facts import Space
from icebus.schemas.supervision.health import Severity

if TYPE_CHECKING:
    from pathlib import Path

    from icebus.broker.embedded import EmbeddedBroker
    from icebus.client.dashboard.starting import Dashboard

NOW = 1_800_000_000.0
WELL = Facts(name="screen", url="http://127.0.0.1:8470", answers=True, now=NOW, installed=NOW - 1)


def test_given_a_dashboard_that_serves_then_it_is_well() -> None:
    verdict = judge(WELL)

    assert verdict.severity is Severity.OK
    assert "it serves http://127.0.0.1:8470" in verdict.line


@pytest.mark.parametrize(
    ("wrong", "severity", "told"),
    [
        ({"url": "", "answers": False}, Severity.CRITICAL, "not running"),
        ({"answers": False}, Severity.CRITICAL, "does not answer at"),
        ({"built": False}, Severity.CRITICAL, "script/dashboard"),
        ({"broker": "no broker answers"}, Severity.CRITICAL, "no broker answers"),
        ({"own_ends": NOW - 1}, Severity.CRITICAL, "the certificate for browsers ended"),
        ({"broker_ends": NOW + 86_400}, Severity.WARNING, "the broker's certificate ends"),
        ({"now": NOW - 1e7}, Severity.CRITICAL, "clock"),
    ],
)
def test_given_what_is_wrong_then_that_is_what_is_said(
    wrong: dict[str, Any], severity: Severity, told: str
) -> None:
    verdict = judge(replace(WELL, **wrong))

    assert verdict.severity is severity
    assert told in verdict.line


def test_given_a_full_disk_then_it_is_critical(tmp_path: Path) -> None:
    assert judge(replace(WELL, space=Space(tmp_path, free=0))).severity is Severity.CRITICAL


def test_given_one_that_runs_when_looked_at_then_it_is_found_until_it_or_the_broker_is_gone(
    broker: EmbeddedBroker, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icebus.client.dashboard.health.is_built", lambda: True)
    alice, bob = broker.address("alice"), broker.address("bob")
    checks = {each.name: each.severity for each in look(alice, 10).findings}

    assert checks["running"] is checks["broker"] is checks["page"] is Severity.OK
    assert "not running here" in look(bob, 10).line

    broker.child.process.kill()
    broker.child.process.wait()
    assert "broker" in look(alice, 1).line
