"""``health`` of every program: wrong usage is "unknown" to Nagios, never "critical"."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from icebus.schemas.supervision.command import asks_for_health

PROGRAMS = {
    "icebus-broker": ("icebus.broker.cli.app", ["health"]),
    "icebus-control": ("icebus.control.cli", ["health"]),
    "icebus-worker": ("icebus.worker.cli", ["health"]),
    "icebus-rack": ("icebus.rack.cli", ["health"]),
    "icebus": ("icebus.client.cli", ["dashboard", "health"]),
}


def run(program: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    module, _ = PROGRAMS[program]
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with pytest.raises(SystemExit) as ended:
        import_module(module).main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("wrong", [["--nonsense"], ["--timeout", "soon"], ["-o", "csv"], ["more"]])
@pytest.mark.parametrize("program", PROGRAMS)
def test_given_wrong_usage_of_health_then_the_exit_code_is_that_of_unknown(
    program: str, wrong: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(program, [*PROGRAMS[program][1], *wrong], monkeypatch) == 3


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("icebus", ["dashboard", "--nonsense"]),
        ("icebus", ["devices", "health", "--nonsense"]),
        ("icebus-broker", ["add", "health", "--nonsense"]),
        ("icebus-control", ["verify", "health", "--nonsense"]),
    ],
)
def test_given_wrong_usage_of_another_command_then_it_stays_that_of_a_shell(
    program: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(program, arguments, monkeypatch) == 2


def test_given_a_name_that_is_called_health_then_health_is_not_meant() -> None:
    commands = {"add", "health"}
    assert asks_for_health(["-d", "x", "health", "add"], commands)
    assert not asks_for_health(["add", "health"], commands)
    assert not asks_for_health([], commands)
