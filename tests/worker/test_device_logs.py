"""Lines about a device go to whoever holds it, and to nobody else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest

from icebus.schemas.devices import Desired
from icebus.schemas.log_records import LogRecord, RecordLevel
from icebus.schemas.message import now
from icebus.worker.device_logs import AT_ONCE, DeviceLogs


class FakeBus:
    """Keeps what is retained; time passes when it is told to."""

    def __init__(self) -> None:
        self.retained: dict[str, list[str]] = {}
        self.sent = 0
        self._later: list[Callable[[], None]] = []

    def publish(self, topic: Any, message: Any) -> None:
        self.sent += 1
        self.retained[str(topic)] = [each.message for each in message.lines]

    def clear(self, topic: Any) -> None:
        self.retained.pop(str(topic), None)

    def call_later(self, _seconds: float, step: Callable[[], None]) -> None:
        self._later.append(step)

    def together(self) -> Any:
        return nullcontext()

    def pass_time(self) -> None:
        due, self._later = self._later, []
        for step in due:
            step()


class Farm:
    def __init__(self) -> None:
        self.bus = FakeBus()
        self.logs = DeviceLogs(self.bus, "w1")  # type: ignore[arg-type]
        self._number = 0

    def hold(self, serial: str, user: str | None, reservation: str | None = None) -> None:
        desired = Desired(
            serial=serial, generation=1, user=user, reservation=reservation, kind=user and "k"
        )
        self.logs.on_desired(serial, desired)

    def say(self, message: str, *, earlier: float = 0, **fields: Any) -> None:
        self._number += 1
        line = LogRecord(
            id=f"a-{self._number}",
            at=now() - timedelta(seconds=earlier),
            level=RecordLevel.INFO,
            logger="t",
            message=message,
            fields=fields,
        )
        self.logs.hear(line)

    def told(self, user: str, serial: str = "B1", reservation: str = "r1") -> list[str] | None:
        self.bus.pass_time()
        return self.bus.retained.get(f"user/{user}/reservation/{reservation}/log/w1/{serial}")


@pytest.fixture
def farm() -> Farm:
    made = Farm()
    made.hold("B1", "alice", "r1")
    return made


def test_given_a_held_device_when_lines_name_it_then_its_holder_is_told_of_them_together(
    farm: Farm,
) -> None:
    farm.say("one", serial="B1")
    farm.say("two", serial="B1", user="alice", reservation="r1")
    assert farm.told("alice") == ["one", "two"]
    assert farm.bus.sent == 1


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"serial": "B2"},
        {"serial": "#"},
        {"serial": "B1", "user": "bob"},
        {"serial": "B1", "reservation": "r2"},
        {"serial": 1},
        {"serial": None},
    ],
)
def test_given_a_line_about_anything_else_then_nobody_is_told(
    farm: Farm, fields: dict[str, Any]
) -> None:
    farm.say("secret", **fields)
    farm.bus.pass_time()
    assert farm.bus.retained == {}


def test_given_another_holder_then_what_was_said_before_is_gone_and_not_theirs(farm: Farm) -> None:
    farm.say("of alice", serial="B1")
    assert farm.told("alice") == ["of alice"]
    farm.hold("B1", "bob", "r2")
    assert farm.told("alice") is None
    farm.say("of bob", serial="B1")
    assert farm.told("bob", reservation="r2") == ["of bob"]
    farm.hold("B1", None)
    assert farm.bus.retained == {}


def test_given_a_line_from_before_the_hold_that_comes_late_then_it_is_not_told(farm: Farm) -> None:
    farm.hold("B1", "bob", "r2")
    farm.say("of alice's time", serial="B1", earlier=0.3)
    assert farm.told("bob", reservation="r2") is None


def test_given_a_line_that_waits_when_the_hold_ends_then_it_is_not_told(farm: Farm) -> None:
    farm.say("late", serial="B1")
    farm.hold("B1", None)
    assert farm.told("alice") is None


def test_given_a_thousand_devices_that_fail_at_once_then_all_are_told_some_at_a_time(
    farm: Farm,
) -> None:
    for number in range(1000):
        farm.hold(f"C{number}", "alice", "r1")
        farm.say("failed", serial=f"C{number}")
    farm.bus.pass_time()
    assert farm.bus.sent == AT_ONCE
    for _ in range(20):
        farm.bus.pass_time()
    assert farm.bus.sent == 1000
