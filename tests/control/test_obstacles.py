"""Why a device can't be had: as a table, without a database."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from icebus.control.decide.obstacles import Obstacle, Situation, find_obstacle
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.liveness import Health
from icebus.schemas.message import now


def report(state: DeviceState = DeviceState.READY, **fields: Any) -> DeviceReport:
    return DeviceReport(serial="a", state=state, since=now(), session="s", **fields)


FREE = Situation(report(), "w1", Health.READY)


@pytest.mark.parametrize(
    ("changes", "obstacle", "why"),
    [
        ({}, None, ""),
        ({"quarantined": "smokes"}, Obstacle.QUARANTINED, "quarantined: smokes"),
        ({"draining": "moves"}, Obstacle.DRAINING, "not offered: worker w1 drains (moves)"),
        (
            {"health": Health.GONE, "why_gone": "worker w1 was stopped"},
            Obstacle.STALE,
            "out of reach: worker w1 was stopped",
        ),
        (
            {"health": Health.UNSCHEDULABLE, "drains": True},
            Obstacle.DRAINING,
            "not offered: worker w1 drains",
        ),
        (
            {"health": Health.UNSCHEDULABLE},
            Obstacle.BUSY,
            "not ready yet: worker w1 is starting",
        ),
        (
            {"health": Health.UNKNOWN},
            Obstacle.BUSY,
            "out of reach: worker w1 has not answered yet",
        ),
        (
            {"report": report(DeviceState.BROKEN, reason="no answer")},
            Obstacle.BROKEN,
            "broken: no answer",
        ),
        ({"report": report(DeviceState.QUARANTINED)}, Obstacle.QUARANTINED, "quarantined"),
        ({"report": report(DeviceState.ABSENT)}, Obstacle.ABSENT, "absent"),
        ({"holder": "alice"}, Obstacle.HELD, "held by alice"),
        ({"report": report(DeviceState.TESTING)}, Obstacle.BUSY, "not ready yet: testing"),
        ({"report": report(reservation="r")}, Obstacle.BUSY, "not ready yet: ready"),
        ({"up_to_date": False}, Obstacle.BUSY, "not ready yet: ready"),
    ],
)
def test_given_a_device_then_what_keeps_it_from_everybody_is_named(
    changes: dict[str, Any], obstacle: Obstacle | None, why: str
) -> None:
    assert find_obstacle(FREE._replace(**changes)) == (obstacle, why)


LASTING = [
    {"quarantined": "smokes"},
    {"draining": "moves"},
    {"health": Health.GONE},
    {"report": report(DeviceState.BROKEN)},
]
PASSING = [{"holder": "alice"}, {"up_to_date": False}]


@pytest.mark.parametrize(("lasting", "passing"), [*product(LASTING, PASSING)])
def test_given_what_lasts_and_what_passes_then_the_lasting_is_named(
    lasting: dict[str, Any], passing: dict[str, Any]
) -> None:
    both = FREE._replace(**lasting, **passing)

    assert find_obstacle(both) == find_obstacle(FREE._replace(**lasting))
