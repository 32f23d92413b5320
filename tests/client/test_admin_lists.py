"""Lists of administrators' commands: each item has an outcome of its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from icebus.client.cli.app import app
from icebus.client.cli.commands import admin as module
from icebus.schemas.errors import (
    BrokerUnavailable,
    Conflict,
    InvalidRequest,
    UnknownDevice,
    UnknownReservation,
)
from icebus.schemas.operations.administration import WorkerRetired


class Admin:
    """Refuses what is called so, and notes the rest."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def __enter__(self) -> Admin:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def forget(self, serials: list[str], reason: str) -> list[str]:
        [serial] = serials
        if serial == "HELD":
            raise Conflict("HELD is held by ben")
        if serial == "NONE":
            raise UnknownDevice("there is no NONE")
        if serial == "AWAY":
            raise BrokerUnavailable("the broker is away")
        self.done.append(serial)
        return serials

    def drain(self, worker: str, reason: str) -> list[str]:
        if worker == "nobody":
            raise InvalidRequest("no worker nobody was ever here")
        self.done.append(worker)
        return ["r1"]

    def undrain(self, worker: str, reason: str) -> list[str]:
        return self.drain(worker, reason)

    def retire(self, worker: str, reason: str) -> WorkerRetired:
        self.done.append(worker)
        return WorkerRetired(worker=worker, forgotten=[])

    def change(self, serials: list[str], *_: str) -> list[str]:
        self.done += serials
        return serials

    reboot = reflash = quarantine = unquarantine = move = change

    def end(self, name: str, reason: str) -> Any:
        if name == "over":
            raise UnknownReservation("there is no over")
        self.done.append(name)
        return SimpleNamespace(user="ben")


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Admin:
    made = Admin()
    monkeypatch.setattr(module, "_connect", lambda: made)
    return made


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["admin", *words])
    return done.exit_code, done.output


def test_given_a_list_when_one_is_held_then_the_others_are_forgotten_and_the_code_says_so(
    admin: Admin,
) -> None:
    code, said = run("forget", "A", "HELD", "B", "A", "--yes")

    assert code == 1
    assert admin.done == ["A", "B"]
    assert "A forgotten" in said
    assert "HELD is held by ben" in said.splitlines(), "what is said of it names it once"


def test_given_a_list_of_which_all_fail_alike_then_the_code_is_that_of_their_failure(
    admin: Admin,
) -> None:
    assert run("end", "one", "over", "--reason", "noon", "--yes")[0] == 3
    assert admin.done == ["one"]
    assert run("forget", "NONE", "HELD", "-y", "--reason", "sold")[0] == 1


def test_given_a_farm_that_can_not_be_asked_then_the_rest_is_not_tried(admin: Admin) -> None:
    with pytest.raises(BrokerUnavailable):
        CliRunner().invoke(app, ["admin", "forget", "AWAY", "A", "--yes"], catch_exceptions=False)
    assert admin.done == []


def test_given_workers_when_one_was_never_there_then_the_others_are_drained(admin: Admin) -> None:
    code, said = run("drain", "w1", "nobody", "w2", "--reason", "noon")

    assert code == 6
    assert admin.done == ["w1", "w2"]
    assert "w2 drains; 1 reservation to finish" in said
    assert run("undrain", "w1", "w2")[0] == 0
    assert run("retire", "w1", "w2", "--yes")[0] == 0


@pytest.mark.parametrize(
    "command", [each.callback.__name__ for each in module.app.registered_commands if each.callback]
)
def test_given_any_change_when_it_is_not_to_ask_then_it_takes_yes_and_does_it(
    admin: Admin, command: str
) -> None:
    options = {"quarantine": ["--reason", "loose"], "move": ["--to", "w2"]}.get(command, [])

    assert run(command, "A", "-y", *options)[0] == 0
    assert admin.done == ["A"]


@pytest.mark.parametrize("command", ["end", "reboot", "reflash", "quarantine", "forget", "retire"])
def test_given_a_terminal_when_others_would_be_harmed_then_it_asks_before(
    admin: Admin, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_asked", lambda: True)
    options = ["--reason", "loose"] if command == "quarantine" else []
    done = CliRunner().invoke(app, ["admin", command, "A", *options], input="n\n")

    assert done.exit_code == 1
    assert "A" in done.output
    assert admin.done == []
