"""Timelines of evaluations: moments counted back, how much of their time boards use, pictures."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from icebus.client.cli.app import app
from icebus.client.cli.commands.results.outcomes import as_row
from icebus.client.cli.commands.results.timeline_plot import drawing_timeline
from icebus.client.cli.commands.results.timeline_rows import (
    NoTimelineError,
    board_uses,
    gaps,
    length,
    moments_of,
    read_rows,
    union,
)
from icebus.schemas.errors import DeviceFailed
from icebus.schemas.kinds.pulsecount import PulseCountResult
from icebus.schemas.measuring import Failure

AT = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)
START = AT.timestamp()


def row(end: float, serial: str = "A", **fields: Any) -> dict[str, Any]:
    """An outcome that came so many seconds after ``AT``, as ``-o jsonl`` prints it."""
    return {
        "serial": serial,
        "bitstream": "a.bin",
        "evaluation": "e1",
        "upload": 0.5,
        "waited": 1.0,
        "window": 2.0,
        "configured": 0.25,
        "queued": 4.0,
        "at": (AT + timedelta(seconds=end)).isoformat(),
        "delivered": (AT + timedelta(seconds=end + 0.125)).isoformat(),
        **fields,
    }


def failed(end: float, **fields: Any) -> dict[str, Any]:
    told = row(end, error={"code": "device_failed", "message": "no"}, **fields)
    return {name: value for name, value in told.items() if name not in ("upload", "window")}


def test_given_a_result_then_its_moments_are_counted_back_from_when_it_came() -> None:
    found = moments_of(row(10.0))

    assert found.measured - START == 10.0
    assert found.begun == START + 8.0
    assert found.configured == START + 8.25
    assert found.uploaded == START + 7.0
    assert found.sent == START + 6.5
    assert found.queued == START + 2.5
    assert found.delivered == START + 10.125


def test_given_a_board_that_does_not_tell_all_then_what_is_not_known_is_left_out() -> None:
    found = moments_of(row(10.0, waited=None, configured=None, queued=None, delivered=None))

    assert (found.configured, found.queued, found.delivered) == (None, None, None)
    assert found.uploaded == found.begun == START + 8.0
    assert found.row()["configured"] is None


def test_given_a_failure_then_it_says_when_it_was_accepted_and_when_it_failed() -> None:
    found = moments_of(failed(10.0))

    assert found.failed == "device_failed"
    assert (found.queued, found.measured) == (START + 6.0, START + 10.0)
    assert found.begun is None


def test_given_outcomes_of_boards_then_each_one_s_use_and_gaps_are_told() -> None:
    rows = [row(10.0, waited=0.0), row(13.0, waited=0.0), failed(14.0), row(10.0, "B")]
    [a, b] = board_uses(map(moments_of, rows))

    # Sent at 7.5, at work from 8 to 10 and from 11 to 13, done with at 14.
    assert (a.serial, a.evaluations, a.failures, a.seconds) == ("A", 3, 1, 6.5)
    assert a.configuring == pytest.approx(0.5 / 6.5)
    assert a.measuring == pytest.approx(3.5 / 6.5)
    assert a.idle == pytest.approx(2.5 / 6.5)
    assert a.longest_idle == 1.0
    assert a.queued == 4.0
    assert a.delivery == 0.125
    assert b.evaluations == 1


def test_given_a_failure_that_no_board_has_tried_then_no_board_is_made_up() -> None:
    assert board_uses([moments_of(failed(1.0, serial=None))]) == []


INTERVALS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 10)).map(lambda each: (each[0], sum(each)))
)


@given(INTERVALS)
def test_given_any_intervals_then_their_union_and_its_gaps_make_up_the_whole(
    intervals: list[tuple[int, int]],
) -> None:
    seconds = {at for start, end in intervals for at in range(start, end)}
    apart = union(intervals)

    assert length(apart) == len(seconds)
    assert length(gaps(apart, 0, 60)) == 60 - len(seconds)


@pytest.mark.parametrize("text", ["lines", "list"])
def test_given_what_evaluate_prints_then_either_form_is_read(text: str) -> None:
    rows = [row(1.0), row(2.0)]
    lines = {
        "lines": "".join(json.dumps(each) + "\n\n" for each in rows),
        "list": json.dumps(rows, indent=2),
    }[text]

    assert [each.measured - START for each in read_rows(lines.splitlines(True))] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is not JSON; give what `icebus evaluate -o jsonl`"),
        ("[" * 100_000, "the file is not JSON"),
        ("7", "line 1 is no outcome"),
        ("[7]", "outcome 1 is no outcome"),
        ('{"serial": "A"}', "line 1: it does not say when it was measured"),
        (json.dumps(row(1.0, at="yesterday")), "line 1: at is no moment"),
        (json.dumps(row(1.0, at="2026-11-28T12:00:00")), "line 1: at is no moment"),
        (json.dumps(row(1.0, at="0001-01-01T00:00:00+00:00")), "line 1: at is no moment"),
        (json.dumps(row(1.0, delivered=5)), "line 1: delivered is no moment"),
        (json.dumps(row(1.0, window=-1)), "line 1: window is no number of seconds"),
        (json.dumps(row(1.0, upload=float("nan"))), "line 1: upload is no number"),
        (json.dumps(row(1.0, queued=float("inf"))), "line 1: queued is no number"),
        (json.dumps(row(1.0, waited="1")), "line 1: waited is no number"),
        (json.dumps(row(1.0, configured=True)), "line 1: configured is no number"),
    ],
)
def test_given_something_else_then_it_is_refused_with_its_line(line: str, message: str) -> None:
    with pytest.raises(NoTimelineError, match=message):
        list(read_rows([line]))


def test_given_an_outcome_then_the_row_that_is_printed_has_all_that_is_read() -> None:
    told = {
        name: value
        for name, value in row(10.0).items()
        if name not in ("delivered", "bitstream", "serial")
    }
    common = {"serial": "A", "bitstream": "a.bin", "batch": "b", "sha256": "0" * 64}
    result = PulseCountResult.model_validate({**told, **common, "pulses": 1, "exact": True})
    came = result.with_source(None, AT + timedelta(seconds=10.125))

    printed = as_row(came, ("pulses",))

    assert moments_of(printed) == moments_of(row(10.0))
    failure = Failure(
        serial="A", evaluation="e1", batch="b", bitstream="a.bin", sha256="0" * 64,
        at=AT, queued=3.0, error=DeviceFailed("no"),
    )  # fmt: skip
    assert moments_of(as_row(failure, ())).failed == "device_failed"


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.jsonl"
    rows = [row(10.0), row(12.0, "B", configured=None), failed(13.0)]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def run(*words: str, stdin: str | None = None) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["timeline", *words], input=stdin)
    return done.exit_code, done.stdout, done.stderr


def test_given_results_then_the_table_has_a_line_for_each_board(results: Path) -> None:
    code, told, _ = run(str(results))

    assert code == 0
    header, *lines = told.splitlines()
    assert header.split()[:3] == ["SERIAL", "EVALUATIONS", "FAILURES"]
    assert [line.split()[0] for line in lines] == ["A", "B"]


def test_given_results_on_stdin_then_each_evaluation_says_when(results: Path) -> None:
    code, told, _ = run("-", "-o", "jsonl", stdin=results.read_text())
    _, whole, _ = run(str(results), "-o", "json")

    rows = [json.loads(line) for line in told.splitlines()]
    assert code == 0
    assert rows[0]["sent"] == "2026-11-28T12:00:06.500+00:00"
    assert rows[2]["error"] == "device_failed"
    assert json.loads(whole)["evaluations"] == rows
    assert [each["serial"] for each in json.loads(whole)["boards"]] == ["A", "B"]


def test_given_a_picture_then_it_is_drawn(results: Path) -> None:
    picture = results.with_suffix(".svg")

    code, _, said = run(str(results), str(picture))

    assert code == 0
    assert f"drawn: {picture}" in said
    assert "measuring" in picture.read_text()


def test_given_nothing_to_draw_then_that_is_said(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")

    code, _, said = run(str(empty), str(tmp_path / "t.png"))

    assert code == 0
    assert "not drawn" in said
    assert not (tmp_path / "t.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.jsonl"], "No such file"),
        (["RESULTS", "t.doc"], "the file's ending says the format"),
        (["RESULTS", "no/such/folder/t.png"], "there is no folder"),
    ],
)
def test_given_a_file_that_can_not_be_used_then_it_is_named(
    results: Path, words: list[str], message: str
) -> None:
    code, _, said = run(*(str(results) if word == "RESULTS" else word for word in words))

    assert code != 0
    assert message in " ".join(said.replace("│", " ").split())


def test_given_a_picture_that_can_not_be_written_then_what_was_measured_is_not_lost(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "t.png"
    folder.mkdir()
    failure = Failure(
        serial="A", evaluation="e", batch="b", bitstream="a", sha256="0" * 64,
        at=AT, error=DeviceFailed("no"),
    )  # fmt: skip
    with drawing_timeline(folder) as timeline:
        assert timeline is not None
        timeline.add(failure)

    assert timeline.failed
