"""What of an account ends soon is told before it does, and a refusal afterwards says so."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from icebus.broker.access import Principal
from icebus.broker.accounts import with_password
from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.service.service import BrokerService
from icebus.bus import BrokerAddress, Bus
from icebus.client import Client
from icebus.client._profiles.endings import Ending, endings
from icebus.client._profiles.profile import Profile
from icebus.client.cli.once_a_day import first_today
from icebus.client.doctor.farm import check_account
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError, NotAuthorized
from icebus.schemas.ids import BROKER
from icebus.schemas.operations.accounts import Account
from icebus.schemas.topics import Role

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture
def files(broker: EmbeddedBroker) -> Iterator[BrokerDirectory]:
    """The directory of a broker whose service runs, with carol."""
    known = BrokerDirectory(broker.directory)
    known.add_principals([Principal(id="carol", role=Role.USER, password="x" * 20)])
    service = BrokerService(known, broker.address(BROKER))
    service.start()
    yield known
    service.stop(Deadline.after(5))


@pytest.mark.parametrize(
    ("account", "login", "told"),
    [
        (Account(user="carol", role="user"), "carol", []),
        (Account(user="carol", role="user", expires=NOW + timedelta(days=8)), "carol", []),
        (Account(user="carol", role="user", expires=NOW + timedelta(days=6)), "carol", ["account"]),
        (Account(user="carol", role="user", former={"carol": NOW}), "carol.1", []),
        (Account(user="carol", role="user", former={"carol": NOW}), "carol", ["password"]),
    ],
)
def test_given_an_account_then_what_ends_soon_is_named(
    account: Account, login: str, told: list[str]
) -> None:
    assert [each.what for each in endings(account, login, NOW)] == told
    assert check_account(account, login, NOW).level == ("warn" if told else "ok")


def test_given_a_password_that_is_replaced_elsewhere_when_it_has_ended_then_the_refusal_says_so(
    broker: EmbeddedBroker, files: BrokerDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icebus.client._connection.own_account.SETTLED", 0.1)
    old = broker.address("carol")
    ends = datetime.now(UTC) + timedelta(seconds=4)
    files.change(
        "carol",
        lambda known: with_password(known, "y" * 20, "carol.new", ends - datetime.now(UTC)),
    )
    told: queue.SimpleQueue[Ending] = queue.SimpleQueue()
    refused: queue.SimpleQueue[IcebusError] = queue.SimpleQueue()
    with Client(old.url()) as client:
        client.on("ends")(told.put)
        client.on("refused")(refused.put)
        assert told.get(timeout=10).what == "password"
        error = refused.get(timeout=20)
    assert isinstance(error, NotAuthorized)
    assert error.details["cause"] == "replaced"
    assert "this password was replaced" in error.message


def test_given_a_profile_of_an_account_that_has_ended_when_used_then_the_refusal_says_so(
    broker: EmbeddedBroker, files: BrokerDirectory, tmp_path: Path
) -> None:
    ended = datetime.now(UTC) - timedelta(hours=1)
    address = replace(broker.address("carol"), ends=ended)
    Profile(**address.credentials().model_dump()).write(tmp_path / "carol.json")
    files.change("carol", lambda known: known.model_copy(update={"expires": ended}))

    address = BrokerAddress.parse(str(tmp_path / "carol.json"))
    deadline = Deadline.after(10)
    error = None
    while error is None and not deadline.expired:
        bus = Bus(address, "carol")
        try:
            bus.connect(Deadline.after(5))
        except NotAuthorized as refusal:
            error = refusal
        else:
            bus.close(Deadline.after(1))
    assert error is not None
    assert error.details["cause"] == "ended"
    assert "icebus-broker expires carol" in error.message


def test_given_something_that_was_told_then_it_is_not_told_again_that_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert [first_today("account"), first_today("account"), first_today("other")] == [
        True,
        False,
        True,
    ]
