"""Which word of a command line is completed, from the commands alone, and how shells are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.client._profiles.farm_directory import profile_path
from icebus.client._profiles.profile import Profile, default_profile_path, find_address
from icebus.client._profiles.saved_profiles import SavedProfiles
from icebus.client.cli.completing.candidates import COMPLETERS
from icebus.client.cli.completing.command_tree import find_wanted, read_tree
from icebus.client.cli.completing.retained import Retained
from icebus.client.cli.completing.shells import VARIABLE, answer, asked_by
from icebus.client.cli.completing.where import find_broker
from icebus.schemas.errors import IcebusError

TREE = read_tree()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "user",
                    "state",
                    "kind",
                    "devices",
                    "offer",
                    "serial",
                    "kinds",
                    "methods",
                    "to",
                    "events",
                    "args",
                    "properties",
                    "principals",
                    "entries",
                    "labels",
                    "evaluate",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def words(line: str) -> set[str]:
    """What is offered for the last word of a line."""
    *before, begun = line.split(" ")
    return {word for word, _ in find_wanted(TREE, before, begun).matching}


def completer(line: str) -> tuple[str | None, str]:
    *before, begun = line.split(" ")
    wanted = find_wanted(TREE, before, begun)
    return wanted.completer, wanted.begun


def test_given_commands_and_options_when_begun_then_those_that_fit_are_offered() -> None:
    assert words("rel") == {"release"}
    assert words("admin und") == {"undrain"}
    assert words("devices --sel") == {"--selector"}
    assert words("devices --farm lab -o j") == {"json", "jsonl"}
    assert words("devices -o=j") == set()  # no option of one letter is written so
    assert words("devices --output=j") == {"--output=json", "--output=jsonl"}
    assert words("history --event quar") == {"quarantined"}
    assert words("history -e ended -e quar") == {"quarantined"}
    assert words("nonsense ") == set()
    assert "--reservation" not in words("call --reservation r --")
    assert "--event" in words("history --event ended --")
    assert "--farm" not in words("devices --")  # the help of `icebus` itself has it


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("devices ", ("serial", "")),
        ("devices one two E6", ("serial", "E6")),
        ("reserve 2 --kind p", ("kind", "p")),
        ("reserve 2 --kind=p", ("kind", "p")),
        ("reserve -kp", (None, "-kp")),
        ("reserve -k p", ("kind", "p")),
        ("history --user ", ("user", "")),
        ("transfer r ", ("user", "")),
        ("call E6 ", ("method", "")),
        ("call -r r E6 ", ("method", "")),
        ("call -rr E6 ", ("method", "")),
        ("call -- E6 ", ("method", "")),
        ("call E6 status ", (None, "")),
        ("-v --farm lab admin move E6 --to ", ("worker", "")),
        ("profile use ", ("saved_farm", "")),
        ("--farm ", ("farm", "")),
    ],
)
def test_given_a_command_line_when_its_last_word_is_begun_then_what_knows_it_is_found(
    line: str, expected: tuple[str | None, str]
) -> None:
    assert completer(line) == expected


def test_given_words_before_when_completed_then_the_completer_is_told_of_them() -> None:
    assert find_wanted(TREE, ["release", "a", "b"], "").given["words"] == ["a", "b"]
    assert find_wanted(TREE, ["call", "E6"], "").given["serial"] == "E6"
    assert find_wanted(TREE, ["reserve", "-k", "v", "--arg"], "").given["kind"] == "v"
    assert find_wanted(TREE, ["reserve", "--arg"], "").given["kind"] == "pulsecount"
    assert find_wanted(TREE, ["--farm", "lab", "devices"], "").given["farm"] == "lab"
    assert find_wanted(TREE, ["devices", "--farm", "x"], "").given["common_farm"] == "x"


@given(st.lists(st.sampled_from(["devices", "call", "-o", "--", "=", "--x=", "-", ""]), max_size=6))
def test_given_any_words_when_completed_then_nothing_breaks(line: list[str]) -> None:
    find_wanted(TREE, line, "-")
    find_wanted(TREE, line, "")


# --- shells ---------------------------------------------------------------------------------------


def test_given_bash_when_a_word_has_an_equals_sign_then_only_what_stands_behind_it_is_told() -> (
    None
):
    environment = {
        VARIABLE: "complete_bash",
        "COMP_WORDS": "icebus\ndevices\n-l\nchip\n=\nrp",
        "COMP_CWORD": "5",
    }
    asked = asked_by(environment)
    assert asked == ("bash", ["devices", "-l"], "chip=rp")
    told, _ = answer("bash", "chip=rp", [("chip=rp2040", ""), ("chip=rp2350", "")], environment)
    assert told == "rp2040\nrp2350"


def test_given_quotes_that_are_open_when_asked_then_what_was_typed_counts() -> None:
    environment = {VARIABLE: "complete_fish", "_TYPER_COMPLETE_ARGS": "icebus history --user 'a"}
    assert asked_by(environment) == ("fish", ["history", "--user"], "a")


@given(st.text(), st.text())
def test_given_words_of_others_when_zsh_is_told_then_it_can_evaluate_nothing_of_them(
    word: str, about: str
) -> None:
    told, _ = answer("zsh", "", [(word, about), ("fine", "x")], {})
    inside = told.removeprefix("_arguments '*: :((").removesuffix("))'")
    assert told != inside
    assert not set(inside) & set("'$`()<>|&*#")
    assert inside.count('"') % 2 == 0
    assert "\\" not in inside.replace(r"\\:", "")


# --- what is retained -----------------------------------------------------------------------------


@given(st.lists(JSON.filter(lambda each: isinstance(each, dict)), max_size=3))
def test_given_nonsense_that_is_retained_when_completing_then_the_rest_is_offered(
    messages: list[Any],
) -> None:
    for families, candidates in COMPLETERS.values():
        farm: Retained = {name: [(["w", "s"], each) for each in messages] for name in families}
        json.dumps(list(candidates(farm, "ann", {}, "")))


def test_given_an_administrator_when_users_are_completed_then_all_who_may_hold_boards_come() -> (
    None
):
    _, users = COMPLETERS["user"]
    people = [{"id": "ann", "role": "user"}, {"id": "boss", "role": "admin"}]
    farm: Retained = {
        "RESERVATION": [(["r"], {"user": "ann", "state": "active", "kind": "pulsecount"})],
        "PRINCIPALS": [([], {"principals": [*people, {"id": "wall", "role": "observer"}]})],
        "CONTROL_HISTORY": [([], {"entries": [{"user": "cem"}, {"user": None}]})],
    }
    assert dict(users(farm, "boss", {}, "")) == {
        "ann": "holds 1 reservation",
        "boss": "holds nothing",
        "cem": "holds nothing",
    }


# --- which farm -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "environment"),
    [
        (None, {}),
        (None, {"ICEBUS_URL": "mqtt://u:p%40ss@h:1/root"}),
        (None, {"ICEBUS_URL": "mqtts://u.a1b2c3@[::1]"}),
        (None, {"ICEBUS_FARM": "lab"}),
        (None, {"ICEBUS_URL": "", "ICEBUS_FARM": ""}),
        ("lab", {}),
        ("ben", {}),
        ("nobody", {}),
        (None, {"ICEBUS_URL": "http://h"}),
    ],
)
@pytest.mark.parametrize("chosen", [None, "lab"])
def test_given_names_of_farms_when_completing_then_the_broker_is_the_one_of_the_commands(
    named: str | None,
    environment: dict[str, str],
    chosen: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    saved = SavedProfiles()
    saved.prepare()
    Profile(url="mqtts://me@lab", user="me", password="s3", ca=None).write(saved.path("lab"))
    Profile(url="mqtt://ann@here:7", user="ann").write(default_profile_path())
    Profile(url="mqtt://ben@here:7", user="ben").write(
        profile_path(tmp_path / "icebus/farm", "ben")
    )
    if chosen:
        saved.use(chosen)
    try:
        meant = find_address(farm=named, environment=environment)
    except IcebusError:
        with pytest.raises((OSError, ValueError)):
            find_broker(named, environment)
        return
    found = find_broker(named, environment)
    assert (found.host, found.port, found.tls) == (meant.host, meant.port, meant.tls)
    assert (found.login, found.user) == (meant.logs_in_as, meant.user)
    assert (found.password, found.root) == (meant.password, meant.root)
