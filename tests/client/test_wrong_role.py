"""Commands with credentials that are not a person's, or for another root."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.command_line import Icebus, in_this_process

from icebus.client import Client
from icebus.schemas.errors import NotAuthorized, WrongRole

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl
    from tests.client.scripted_worker import ScriptedWorker

    from icebus.broker.embedded import EmbeddedBroker

COMMANDS = ["devices", "reservations", "watch", "workers", "doctor"]


@pytest.fixture
def icebus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Icebus]:
    with in_this_process(monkeypatch, capsys) as run:
        yield run


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("name", "role"), [("w1", "a worker"), ("main", "a control")])
def test_given_credentials_of_a_program_when_a_command_is_run_then_it_says_so(
    broker: EmbeddedBroker,
    monkeypatch: pytest.MonkeyPatch,
    icebus: Icebus,
    command: str,
    name: str,
    role: str,
) -> None:
    monkeypatch.setenv("ICEBUS_URL", broker.address(name).url())
    done = icebus(command)
    assert f"{name} is {role} here" in done.stdout + done.stderr
    assert done.code == (1 if command == "doctor" else 5)


@pytest.mark.parametrize("command", COMMANDS)
def test_given_a_wrong_root_when_a_command_is_run_then_the_root_is_the_remedy(
    broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, icebus: Icebus, command: str
) -> None:
    address = replace(broker.address("alice"), root="icebus/v2")
    monkeypatch.setenv("ICEBUS_URL", address.url())
    done = icebus(command)
    assert "end the URL with /icebus/v1" in done.stdout + done.stderr
    assert done.code == (1 if command == "doctor" else 5)


def test_given_the_library_then_it_raises_what_the_commands_say(
    broker: EmbeddedBroker, control: ScriptedControl
) -> None:
    with pytest.raises(WrongRole, match="w1 is a worker here"):
        Client(broker.address("w1").url())
    with pytest.raises(NotAuthorized, match="icebus/v2"):
        Client(replace(broker.address("alice"), root="icebus/v2").url())


@pytest.mark.parametrize("command", [("reserve", "1"), ("run", "--", "true"), ("limits",)])
def test_given_an_observer_when_control_would_be_asked_then_the_role_that_lacks_is_named(
    broker: EmbeddedBroker,
    control: ScriptedControl,
    w1: ScriptedWorker,
    monkeypatch: pytest.MonkeyPatch,
    icebus: Icebus,
    command: tuple[str, ...],
) -> None:
    monkeypatch.setenv("ICEBUS_URL", broker.address("eve").url())
    done = icebus(*command)
    assert "eve is an observer here" in done.stderr
    assert "--role user" in done.stderr
    assert done.code == 5
