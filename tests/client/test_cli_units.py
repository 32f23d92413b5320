"""The pure parts of the command line: durations, tables, exit codes."""

from __future__ import annotations

import csv
import inspect
import io
import json
import sys
from dataclasses import replace
from datetime import timedelta
from types import ModuleType

import hypothesis.strategies as st
import pytest
from hypothesis import given

from icebus.client import Waiting
from icebus.client.cli import exit_codes, main
from icebus.client.cli.app import PANELS, app
from icebus.client.cli.commands import admin
from icebus.client.cli.commands.reserving.reservations import by_reservation
from icebus.client.cli.durations import parse_duration
from icebus.client.cli.help_text import reflow
from icebus.client.cli.output import printing as output
from icebus.client.cli.output.printing import Column, Format, can_draw, csv_line, print_rows, table
from icebus.client.cli.output.progress import queue_place_text
from icebus.schemas import errors
from icebus.schemas.errors import IcebusError
from icebus.schemas.message import now
from icebus.schemas.wording import show_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("0.5", 0.5),
        ("30s", 30),
        ("15m", 900),
        ("2h", 7200),
        ("1h30m", 5400),
        (" 1D ", 86400),
        ("1.5h", 5400),
    ],
)
def test_given_a_duration_when_parsed_then_it_is_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "0", "-5", "3x", "1m2", "h", "1e9", "9" * 20, "0s"])
def test_given_no_duration_when_parsed_then_it_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.integers(1, 59), st.sampled_from("smhd"))
def test_given_a_round_duration_when_shown_then_it_parses_back(count: int, unit: str) -> None:
    seconds = parse_duration(f"{count}{unit}")
    assert parse_duration(show_duration(seconds)) == seconds


@given(st.floats(-1e6, 1e8))
def test_given_any_seconds_when_shown_then_a_short_text_comes(seconds: float) -> None:
    assert 2 <= len(show_duration(seconds)) <= 8


@given(st.lists(st.fixed_dictionaries({"name": st.text(), "count": st.none() | st.integers()})))
def test_given_any_rows_when_tabled_then_there_is_a_line_for_each(
    rows: list[dict[str, object]],
) -> None:
    lines = table(rows, [Column("name"), Column("count", right=True)]).split("\n")
    assert len(lines) == len(rows) + 1
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (80, ["ID", "KIND", "WORKER", "LEFT"]),
        (19, ["ID", "KIND", "LEFT"]),
        (13, ["ID", "KIND"]),
        (4, ["ID", "KIND"]),
    ],
)
def test_given_a_narrow_terminal_when_tabled_then_minor_columns_are_left_out(
    monkeypatch: pytest.MonkeyPatch, width: int, titles: list[str]
) -> None:
    monkeypatch.setattr(output, "_terminal_width", lambda: width)
    columns = [Column("id"), Column("kind"), Column("worker", minor=2), Column("left", minor=1)]
    row = {"id": "ab12", "kind": "k", "worker": "local", "left": "5m"}
    assert table([row], columns).splitlines()[0].split() == titles


def test_given_no_terminal_when_tabled_then_nothing_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    columns = [Column("name"), Column("reason", minor=1)]
    assert "REASON" in table([{"name": "a" * 20, "reason": "b" * 20}], columns)


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (errors.UnknownReservation("there is none", reservation="r1"), True),
        (errors.ReservationEnded("it is over", reservation="r1"), True),
        (errors.UnknownReservation("there is none", reservation="r2"), False),
        (errors.NotEnoughDevices("there are none", reservation="r1"), False),
    ],
)
def test_given_a_reservation_of_the_environment_when_it_is_over_then_the_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, error: IcebusError, named: bool
) -> None:
    monkeypatch.setenv("ICEBUS_RESERVATION", "r1")
    assert ("unset ICEBUS_RESERVATION" in exit_codes.describe(error)[1]) == named


def test_given_rows_when_tabled_then_columns_line_up() -> None:
    rows = [{"name": "a", "pulses": 7}, {"name": "long", "pulses": 1998}, {"name": "", "pulses": 0}]
    assert table(rows, [Column("name"), Column("pulses", right=True)]).split("\n") == [
        "NAME  PULSES",
        "a          7",
        "long    1998",
        "-          0",
    ]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (Format.JSON, '[\n  {\n    "name": "é",\n    "no": null\n  }\n]\n'),
        (Format.JSONL, '{"name": "é", "no": null}\n'),
        (Format.CSV, "name,no\r\né,\r\n"),
        (Format.NAME, "é\n"),
        (Format.TABLE, "NAME  NO\né     -\n"),
    ],
)
def test_given_a_form_when_printed_then_stdout_has_just_that(
    capsys: pytest.CaptureFixture[str], form: Format, expected: str
) -> None:
    print_rows([{"name": "é", "no": None}], [Column("name"), Column("no")], form, "name")
    captured = capsys.readouterr()
    assert captured.out == expected
    assert captured.err == ""


def test_given_no_rows_when_printed_as_json_then_it_is_an_empty_list(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows([], [Column("name")], Format.JSON, "name")
    assert json.loads(capsys.readouterr().out) == []


def test_given_fields_when_printed_as_csv_then_the_columns_are_those_with_or_without_rows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns = [Column("name")]
    row = {"name": "a", "devices": {"ready": 2}, "odd": 'x,"y"', "hidden": 1, "virtual": True}
    fields = ("devices", "odd", "virtual", "name", "missing")
    print_rows([row], columns, Format.CSV, "name", fields)
    assert capsys.readouterr().out == (
        'devices,odd,virtual,name,missing\r\n"{""ready"": 2}","x,""y""",true,a,\r\n'
    )
    print_rows([], columns, Format.CSV, "name", fields)
    assert capsys.readouterr().out == "devices,odd,virtual,name,missing\r\n"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_given_any_texts_when_written_as_csv_then_they_read_back(texts: list[str]) -> None:
    assert list(csv.reader(io.StringIO(csv_line(texts), newline=""), strict=True)) == [texts]


@pytest.mark.parametrize("value", [1, 1.5, True, {"a": [1]}, [], ["x", None]])
def test_given_a_value_with_parts_when_written_as_csv_then_it_is_json(value: object) -> None:
    ((cell,),) = csv.reader([csv_line([value])])
    assert json.loads(cell) == value


def test_given_a_docstring_when_reflowed_then_only_its_examples_keep_their_lines() -> None:
    doc = "First\nline.\n\nSecond\nparagraph.\n\nExamples:\n  icebus a\n  icebus b\n"
    lines = reflow(doc).splitlines()
    assert lines[:-1] == [
        *("First line.", "", "Second paragraph.", ""),
        *("Examples:", "  icebus a", "  icebus b"),
    ]
    assert inspect.cleandoc("\n".join(lines[4:])).splitlines() == lines[4:], "typer does that to it"


def test_given_the_commands_when_listed_then_each_has_its_place_in_the_help_and_examples() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.callback.__name__
        assert [panel for panel, names in PANELS.items() if name in names] == [
            command.rich_help_panel
        ]
        assert f"Examples:\n  icebus {name}" in (command.help or "") or name == "profile"
    for command in admin.app.registered_commands:
        assert command.callback is not None
        assert f"Examples:\n  icebus admin {command.callback.__name__}" in (command.help or "")


HELD = {"r1": ["A", "B"], "r2": ["C"]}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["r1"], {"r1": []}),
        (["r1", "r2"], {"r1": [], "r2": []}),
        (["r1", "A"], {"r1": ["A"]}),
        (["r1", "A", "B", "r2", "C"], {"r1": ["A", "B"], "r2": ["C"]}),
    ],
)
def test_given_words_to_release_when_read_then_boards_belong_to_what_stands_before_them(
    words: list[str], named: dict[str, list[str]]
) -> None:
    assert by_reservation(words, HELD) == named


@pytest.mark.parametrize("words", [["r1", "C"], ["A"], ["r1", "A", "r3"]])
def test_given_a_board_that_is_not_of_it_when_released_then_nothing_is(words: list[str]) -> None:
    with pytest.raises(errors.UnknownReservation, match="`icebus reservations`"):
        by_reservation(words, HELD)


def test_given_a_place_in_the_queue_when_told_then_the_estimate_is_only_told_if_there_is_one() -> (
    None
):
    place = Waiting("r1", 2, "3 wanted, 1 free (2 in use)")
    assert queue_place_text(place) == "waiting at position 2: 3 wanted, 1 free (2 in use)"
    soon = replace(place, estimate=now() + timedelta(minutes=90))
    assert queue_place_text(soon).endswith("; free in 1h30m unless somebody extends")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UnknownReservation, 3),
        (errors.Forbidden, 3),
        (errors.UnknownDevice, 3),
        (errors.NotEnoughDevices, 4),
        (errors.DeviceUnavailable, 4),
        (errors.LimitExceeded, 4),
        (errors.ReservationQueued, 4),
        (errors.NoProfile, 5),
        (errors.BrokerUnavailable, 5),
        (errors.NotAuthorized, 5),
        (errors.DeadlineExceeded, 5),
        (errors.BitstreamInvalid, 6),
        (errors.InvalidRequest, 6),
        (errors.WorkerLost, 1),
        (errors.RemoteError, 1),
    ],
)
def test_given_an_error_when_described_then_its_exit_code_is_the_documented_one(
    error: type[IcebusError], code: int
) -> None:
    message, _, exit_code = exit_codes.describe(error("what happened"))
    assert (message, exit_code) == ("what happened", code)


def test_given_a_message_that_names_the_remedy_when_described_then_no_hint_repeats_it() -> None:
    told = errors.UnknownDevice("no device x; `icebus devices` lists those there are")
    assert exit_codes.describe(told)[1] == ""
    assert "icebus devices" in exit_codes.describe(errors.UnknownDevice("no device x"))[1]


def test_given_every_error_when_described_then_its_code_is_documented() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type)]
    for cls in classes:
        if issubclass(cls, IcebusError):
            assert exit_codes.describe(cls("x"))[2] in exit_codes.EXIT_CODES


@pytest.mark.parametrize(
    ("term", "drawn"), [("xterm-256color", True), ("dumb", False), ("", False)]
)
def test_given_a_terminal_when_it_is_dumb_then_lines_are_printed_instead(
    monkeypatch: pytest.MonkeyPatch, term: str, drawn: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", term)
    assert can_draw() is drawn


def test_given_ctrl_c_while_the_program_is_loaded_then_there_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Loading(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "icebus.client.cli.app", Loading("app"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "icebus: interrupted\n"
