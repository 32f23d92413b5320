"""The file of limits: what it says, and what is said of mistakes in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from icebus.control.decide.limits import PRIORITY, RESERVATIONS, Limit, Limits
from icebus.control.settings import read_limits
from icebus.schemas.errors import InvalidRequest

DOCUMENT = Path(__file__).parents[2] / "docs" / "deploy.md"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "limits.toml"


def test_given_the_documented_file_then_users_have_their_own_limits_and_the_defaults(
    file: Path,
) -> None:
    found = re.search(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    file.write_text(found[1])

    limits = read_limits(file)

    assert limits.of("bob") == Limit(devices=8, reservations=20, priority=5)
    assert limits.of("alice") == Limit(devices=32, reservations=20, priority=5)


def test_given_no_file_or_an_empty_one_then_the_limits_are_the_usual(file: Path) -> None:
    file.touch()

    assert read_limits(file) == Limits()
    assert Limits().of("anybody") == Limit(
        devices=None, reservations=RESERVATIONS, priority=PRIORITY
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[default", "no TOML"),
        ("[default]\nboards = 3", r"default\.boards is not known"),
        ("[users.alice]\ndevices = -1", r"users\.alice\.devices must be at least 0"),
        ("[users.alice]\npriority = 101", r"users\.alice\.priority"),
        ('[users."a b"]', r"users\.a b"),
        ("[user.alice]", "user is not known"),
    ],
)
def test_given_a_mistake_then_it_is_refused_with_its_place(
    file: Path, text: str, problem: str
) -> None:
    file.write_text(text)

    with pytest.raises(InvalidRequest, match=problem):
        read_limits(file)


def test_given_a_file_that_is_not_there_then_the_error_names_it(file: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"limits\.toml"):
        read_limits(file)
