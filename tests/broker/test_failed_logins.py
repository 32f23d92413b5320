"""Administrators are told from where logins fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from tests.connections import Connect, Inbox, subscribed

from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.service.failed_logins import FailedLoginsTold
from icebus.broker.service.service import BrokerService
from icebus.bus import Bus
from icebus.client.doctor.farm import check_logins
from icebus.client.doctor.finding import Level
from icebus.schemas.components import FailedLogins, FailingAddress
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import NotAuthorized
from icebus.schemas.ids import BROKER
from icebus.schemas.message import decode
from icebus.schemas.topics import FAILED_LOGINS

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def test_given_failed_logins_then_administrators_are_told_and_others_are_not(
    mosquitto: None,
    broker: EmbeddedBroker,
    connect: Connect,
    inbox: type[Inbox],
    eventually: Callable[[Callable[[], bool]], None],
    service: BrokerService,
) -> None:
    for _ in range(3):
        with pytest.raises(NotAuthorized):
            Bus(broker.address("alice").as_user("alice", "wrong"), "x").connect(Deadline.after(5))
    admin, alice = inbox(), inbox()
    subscribed(connect("alice"), FAILED_LOGINS, alice)
    subscribed(connect("root"), FAILED_LOGINS, admin)

    def told() -> bool:
        heard = [decode(FailedLogins, each) for each in admin.payloads]
        return any(
            each.address == "127.0.0.1/32" and each.failures >= 3
            for found in heard
            for each in found.addresses
        )

    eventually(told)
    assert not alice.messages


@pytest.fixture
def service(broker: EmbeddedBroker) -> Iterator[BrokerService]:
    part = FailedLoginsTold(broker.logins, interval=0.1)
    running = BrokerService(BrokerDirectory(broker.directory), broker.address(BROKER), [part])
    running.start()
    yield running
    running.stop(Deadline.after(5))


def failing(failures: int, *, shut_out: bool = False) -> FailedLogins:
    last = NOW - timedelta(minutes=2)
    address = FailingAddress(address="10.0.0.5/32", failures=failures, last=last)
    return FailedLogins(addresses=[address], shut_out=["10.0.0.5/32"] if shut_out else [])


def test_given_many_failed_logins_then_the_doctor_says_from_where_and_when() -> None:
    (finding,) = check_logins(failing(37, shut_out=True), NOW)
    assert finding.level is Level.WARN
    assert finding.found == "37 failed from 10.0.0.5/32, the last 2 min ago: it is shut out"
    assert finding.remedy


def test_given_few_failed_logins_or_nothing_told_then_the_doctor_makes_nothing_of_it() -> None:
    (finding,) = check_logins(failing(2), NOW)
    assert finding.level is Level.OK
    assert check_logins(None, NOW) == []
