"""What `icebus` takes in front of a command it takes behind it, too."""

from __future__ import annotations

import logging

import pytest
import typer
from typer.testing import CliRunner

from icebus.client.cli.app import app
from icebus.client.cli.connecting import FARM
from icebus.client.cli.options.common_options import with_common_options


@pytest.mark.parametrize(
    ("before", "behind", "level"),
    [
        ([], [], logging.ERROR),
        ([], ["-v"], logging.INFO),
        (["-v"], ["--verbose"], logging.DEBUG),
        ([], ["-vv"], logging.DEBUG),
        (["-v"], [], logging.INFO),
    ],
)
def test_given_v_wherever_it_stands_then_that_much_is_logged(
    before: list[str], behind: list[str], level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[int] = []
    monkeypatch.setattr(
        "icebus.client.cli.options.common_options.log_to_stderr",
        lambda level, _: levels.append(level),
    )
    done = CliRunner().invoke(app, [*before, "circuit", "no frequency", *behind])

    assert done.exit_code != 0
    assert levels[-1] == level


def test_given_a_farm_behind_a_command_when_one_stands_before_it_then_the_last_counts() -> None:
    seen: list[str | None] = []
    small = typer.Typer()

    @small.callback()
    def _options() -> None:
        FARM.set("first")

    def look(what: str) -> None:
        seen.append(FARM.get())

    small.command()(with_common_options(look))
    CliRunner().invoke(small, ["look", "x", "--farm", "second"], catch_exceptions=False)
    CliRunner().invoke(small, ["look", "x"], catch_exceptions=False)

    assert seen == ["second", "first"]


def test_given_what_stands_behind_two_dashes_then_it_is_not_ours() -> None:
    seen: list[list[str]] = []
    small = typer.Typer()

    def look(words: list[str]) -> None:
        seen.append(words)

    small.command()(with_common_options(look))
    CliRunner().invoke(small, ["--", "sh", "-v"], catch_exceptions=False)

    assert seen == [["sh", "-v"]]
