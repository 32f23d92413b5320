"""The controls of a farm share their requests with each other, and with nobody else."""

from __future__ import annotations

import logging
import re

import pytest
from tests.connections import Inbox
from tests.control.fakes import TIMEOUT, FakeClient

from icebus.broker.access import Principal
from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Bus, wait_for
from icebus.bus._requests import asking as _asking
from icebus.control.server import Control
from icebus.control.store.database import Database
from icebus.control.store.shared_group import shared_group
from icebus.schemas.deadline import Deadline
from icebus.schemas.operations.reservations import ReservationsReply
from icebus.schemas.topics import ADMIN, OPERATION, Role

REQUESTS = 100
SITE = Principal(id="oslo", role=Role.WORKER, speaks_for=("o1", "o2"))
THIEVES = ["eve", "bob", "w2", "root", "oslo"]
"""An observer, a user, a worker, an administrator, and the bridge of a site."""


def guesses(control: Control) -> list[str]:
    """What somebody would try who knows all that is published, and how icebus is made."""
    known = ["main", control.session, "icebus", "requests", "secret", ""]
    return ["control", *known[:-1], *(f"control-{each}" for each in known)]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("thief", THIEVES)
def test_given_a_thief_of_shared_requests_when_others_ask_then_all_are_answered(
    broker: EmbeddedBroker,
    control: Control,
    alice: FakeClient,
    thief: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker.add_principals([SITE])
    stolen = Inbox()
    bus = Bus(broker.address(thief), thief)
    bus.connect(Deadline.after(10))
    for guess in guesses(control):
        for topic in (OPERATION, ADMIN):
            group = bus.subscribe(topic, stolen, shared=f"$share/{guess}/")
            wait_for(group.acknowledged, Deadline.after(10), "the broker")
    # One that is lost would be sent again, and answered then.
    monkeypatch.setattr(_asking, "RETRY_INTERVAL", 10 * TIMEOUT)
    for _ in range(REQUESTS):
        alice.ask("list", ReservationsReply)
    assert stolen.messages == []
    bus.close(Deadline.after(1))


def test_given_one_database_when_asked_by_whomever_then_the_secret_is_the_same(
    database_url: str,
) -> None:
    first, second = Database(database_url), Database(database_url)
    secret = shared_group(first)
    assert re.fullmatch(r"[0-9a-f]{32}", secret)
    assert shared_group(first) == secret
    assert shared_group(second) == secret
    first.close()
    second.close()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_when_control_runs_then_the_secret_stands_in_no_log(
    broker: EmbeddedBroker,
    control: Control,
    alice: FakeClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        alice.ask("list", ReservationsReply)
    secret = shared_group(control._database)
    assert secret not in caplog.text
    assert secret not in (broker.directory / "mosquitto.log").read_text()
