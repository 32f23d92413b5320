"""Credentials that are replaced while a program runs: it goes on with the new ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.connections import cut, soon

from icebus.broker.access import Principal
from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import BrokerAddress, Bus
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError, NotAuthorized
from icebus.schemas.topics import Role

Eventually = Callable[[Callable[[], bool]], None]


def written(broker: EmbeddedBroker, file: Path) -> Bus:
    """Carol, connected by a credentials file."""
    broker.add_principals([Principal(id="carol", role=Role.USER, password="old" * 8)])
    broker.address("carol").credentials().write(file)
    bus = Bus(BrokerAddress.parse(str(file)), "carol")
    bus.connect(soon())
    return bus


def replace_password(broker: EmbeddedBroker, password: str) -> BrokerAddress:
    broker.add_principals([Principal(id="carol", role=Role.USER, password=password)])
    BrokerDirectory(broker.directory).reload()
    return broker.address("carol")


def test_given_a_file_with_the_new_password_when_shut_out_then_it_comes_back_by_itself(
    broker: EmbeddedBroker, tmp_path: Path, eventually: Eventually
) -> None:
    file = tmp_path / "carol.json"
    bus = written(broker, file)
    problems: list[IcebusError] = []
    bus.on_problem(problems.append)
    try:
        before = bus.connected_at
        replace(broker.address("carol"), password="new" * 8).credentials().write(file)
        replace_password(broker, "new" * 8)

        eventually(lambda: bus.connected_at > before)

        assert bus.address.password == "new" * 8
        assert not any(isinstance(each, NotAuthorized) for each in problems)
    finally:
        bus.close(Deadline.after(1))


def test_given_a_file_that_is_replaced_after_the_refusal_then_it_comes_back_too(
    broker: EmbeddedBroker, tmp_path: Path, eventually: Eventually
) -> None:
    file = tmp_path / "carol.json"
    bus = written(broker, file)
    try:
        before = bus.connected_at
        new = replace_password(broker, "new" * 8)
        eventually(lambda: bus.refusal is not None)
        assert isinstance(bus.refusal, NotAuthorized)

        new.credentials().write(file)

        eventually(lambda: bus.connected_at > before)
        assert bus.refusal is None
    finally:
        bus.close(Deadline.after(1))


@pytest.mark.parametrize(
    "text", ["", "{}", None, '{"url": "mqtt://dave:x@h/other", "user": "dave"}']
)
def test_given_a_file_that_can_not_be_used_then_the_former_are_kept_and_it_is_said_once(
    text: str | None,
    broker: EmbeddedBroker,
    tmp_path: Path,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "carol.json"
    bus = written(broker, file)
    try:
        file.unlink() if text is None else file.write_text(text)
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                before = bus.connected_at
                cut(bus)
                eventually(lambda before=before: bus.connected_at > before)  # type: ignore[misc]

        said = [each for each in caplog.messages if "stay those of before" in each]
        assert len(said) == 1
        assert bus.address.user == "carol"
    finally:
        bus.close(Deadline.after(1))
