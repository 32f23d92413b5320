"""Lists of administrators' commands: each item has an outcome of its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from icebus.client.cli.app import app
from icebus.client.cli.commands import admin as module
from icebus.schemas.errors import BrokerUnavailable, Conflict, UnknownDevice, UnknownReservation


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
    assert "HELD: HELD is held by ben" in said


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
