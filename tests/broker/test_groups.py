"""Groups of principals, and what tells those from each other who were ever called the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from icebus.broker.access import Principal
from icebus.broker.cli.app import app
from icebus.broker.directory import BrokerDirectory, Settings
from icebus.broker.service.roster import roster
from icebus.schemas.errors import InvalidRequest, UnknownPrincipal
from icebus.schemas.topics import Role


@pytest.fixture
def files(tmp_path: Path) -> BrokerDirectory:
    made = BrokerDirectory(tmp_path / "broker")
    made.configure(Settings(port=1883))
    return made


def run(files: BrokerDirectory, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "-d", str(files.path)], catch_exceptions=False)
    return done.output


def test_given_groups_when_added_or_changed_then_they_stand_in_the_roster(
    files: BrokerDirectory,
) -> None:
    run(files, "add", "ben", "--role", "user", "--group", "students", "--group", "night")
    assert files.principals["ben"].groups == ("night", "students")
    password = files.principals["ben"].password_hash

    run(files, "add", "ben", "--role", "user", "--new-password")
    assert files.principals["ben"].groups == ("night", "students")
    assert files.principals["ben"].password_hash != password
    run(files, "group", "ben", "--group", "staff")
    [known] = [each for each in roster(files.principals).principals if each.id == "ben"]
    assert known.groups == ["staff"]
    run(files, "group", "ben", "--none")
    assert list(files.principals["ben"].groups) == []


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("group", "eve", "--group", "x"), UnknownPrincipal),
        (("group", "broker", "--group", "x"), UnknownPrincipal),
        (("group", "ben"), InvalidRequest),
        (("group", "ben", "--group", "x", "--none"), InvalidRequest),
        (("group", "ben", "--group", "a b"), InvalidRequest),
        (("add", "eve", "--role", "user", "--group", "a/b"), InvalidRequest),
    ],
)
def test_given_a_mistake_then_refused_and_nothing_changes(
    files: BrokerDirectory, words: tuple[str, ...], error: type[Exception]
) -> None:
    files.add_principals([Principal(id="ben", role=Role.USER)])
    before = files.principals

    with pytest.raises(error):
        run(files, *words)

    assert files.principals == before


def test_given_somebody_who_is_removed_and_added_again_then_it_is_another(
    files: BrokerDirectory,
) -> None:
    ben = Principal(id="ben", role=Role.USER)
    first = files.add_principals([ben])["ben"].incarnation
    assert first is not None
    again = files.add_principals([Principal(id="ben", role=Role.USER)])["ben"]
    assert again.incarnation == first, "a start of a broker that knows them"
    files.add_principals([Principal(id="ben", role=Role.USER, password="new")])
    assert files.principals["ben"].incarnation == first, "a new password"

    files.remove_principal("ben")
    assert files.add_principals([ben])["ben"].incarnation not in (first, None)
