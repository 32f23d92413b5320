"""The command line for a kind that it has no line of code for: columns, arguments, completion."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from tests.client.frequency import KIND, FrequencyWorker, offer
from tests.command_line import Icebus, in_this_process

from icebus.client.cli.commands.results.outcomes import TIMES, OutcomePrinter
from icebus.client.cli.commands.results.plotting import MOST_WAVEFORMS, Plot, with_waveform
from icebus.client.cli.json_schemas.kinds import columns, measured_fields
from icebus.client.cli.options.completion import (
    complete_measurement_argument,
    complete_measuring_kind,
    complete_reservation_argument,
)
from icebus.schemas.components import EventInfo, KindInfo, MethodInfo
from icebus.schemas.kinds.pulsecount import PulseCountResult
from icebus.schemas.kinds.variance import VarianceMeasurement, VarianceResult
from icebus.schemas.message import now
from icebus.schemas.programs.installation import install_extra

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl

    from icebus.broker.embedded import EmbeddedBroker
    from icebus.client._measuring_client import GenericResult
    from icebus.schemas.measuring import Failure

MEASURED = ("hertz", "resolution", "raw")


@pytest.fixture
def w1(broker: EmbeddedBroker) -> Iterator[FrequencyWorker]:
    made = FrequencyWorker(broker, "w1")
    yield made
    made.close()


@pytest.fixture
def icebus(
    broker: EmbeddedBroker,
    control: ScriptedControl,
    w1: FrequencyWorker,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Icebus]:
    """The command line as alice uses it, in this process."""
    monkeypatch.setenv("ICEBUS_URL", broker.address("alice").url())
    with in_this_process(monkeypatch, capsys) as run:
        yield run


def test_given_another_kind_when_evaluated_then_its_fields_stand_in_a_table(
    icebus: Icebus, circuits: list[Path]
) -> None:
    done = icebus("evaluate", "--kind", KIND, circuits[0])
    assert done.code == 0, done.stderr
    title, row = done.stdout.splitlines()
    assert title.split() == ["BITSTREAM", "SERIAL", "HERTZ", "RESOLUTION"]
    assert row.split() == [circuits[0].name, "d1", "1000.0", "0.5"]


@pytest.mark.parametrize("command", ["evaluate", "map"])
def test_given_another_kind_when_measured_then_each_form_has_its_fields(
    icebus: Icebus, circuits: list[Path], command: str
) -> None:
    words = (command, "--kind", KIND, circuits[0], "-o")
    (row,) = json.loads(icebus(*words, "json").stdout)
    line = json.loads(icebus(*words, "jsonl").stdout)
    (record,) = csv.DictReader(io.StringIO(icebus(*words, "csv").stdout, newline=""))
    common = ("serial", "bitstream", "file", "evaluation")
    assert tuple(row) == tuple(line) == (*common, *MEASURED, "upload", "window", *TIMES)
    assert (row["hertz"], row["raw"], record["raw"]) == (1000.0, [1000], "[1000]")
    assert tuple(record) == (
        *("bitstream", "serial", *MEASURED),
        *("upload", "window", "file", "evaluation", "error", *TIMES),
    )
    assert icebus(*words, "name").stdout == f"{circuits[0].name} d1 1000.0\n"


def test_given_another_kind_when_described_then_its_arguments_stand_with_their_options(
    icebus: Icebus,
) -> None:
    lines = icebus("kinds", KIND).stdout.splitlines()
    reserve, measure = (
        lines.index("RESERVE with --arg NAME=VALUE"),
        lines.index("MEASURE with --measure NAME=VALUE"),
    )
    assert lines[reserve + 1] == "  gate  number  = 0.1  above 0, at most 10  Seconds to count for."
    assert lines[measure + 1] == "  repeats  integer  = 1  at least 1  Times to measure."
    rows = csv.DictReader(io.StringIO(icebus("kinds", KIND, "-o", "csv").stdout, newline=""))
    assert [
        (row["field"], row["type"], row["default"]) for row in rows if row["part"] == "measure"
    ] == [("repeats", "integer", "1")]


def test_given_what_a_measurement_takes_when_given_for_a_reservation_then_the_option_is_named(
    icebus: Icebus, circuits: list[Path]
) -> None:
    done = icebus("evaluate", "--kind", KIND, "-n", 1, "--arg", "repeats=2", circuits[0])
    assert done.code == 6
    assert "repeats of kind frequency is said for each measurement: with `--measure`" in done.stderr


def test_given_boards_of_another_kind_when_evaluated_without_a_kind_then_the_option_is_told(
    icebus: Icebus, circuits: list[Path]
) -> None:
    icebus("reserve", "--kind", KIND)
    done = icebus("evaluate", circuits[0])
    assert f"those that you hold are for {KIND}; `--kind {KIND}` uses them" in done.stderr
    assert "those that you hold" not in icebus("evaluate", "--kind", KIND, circuits[0]).stderr


def test_given_a_kind_that_takes_no_arguments_when_described_then_that_is_said(
    icebus: Icebus, w1: FrequencyWorker
) -> None:
    w1.offer(plain=offer().model_copy(update={"args": {}, "methods": {}}))
    lines = icebus("kinds", "plain").stdout.splitlines()
    assert lines[lines.index("RESERVE") + 1] == "  no arguments"
    assert not any(line.startswith("MEASURE") for line in lines)


def test_given_results_that_nobody_took_when_collected_then_their_fields_are_printed(
    icebus: Icebus, w1: FrequencyWorker
) -> None:
    name = icebus("reserve", "--kind", KIND).stdout.strip()
    w1.kept = ["e1"]
    rows = json.loads(icebus("results", name, "-o", "json").stdout)
    assert [(row["bitstream"], row["hertz"]) for row in rows] == [("e1.bin", 1000.0)]


@pytest.mark.parametrize("command", ["evaluate", "map"])
def test_given_arguments_when_measured_then_they_are_sent_as_their_schemas_say(
    icebus: Icebus, control: ScriptedControl, circuits: list[Path], command: str
) -> None:
    words = ("--kind", KIND, "--arg", "gate=0.5", "--measure", "repeats=2", "-o", "json")
    (row,) = json.loads(icebus(command, *words, circuits[0]).stdout)
    assert row["raw"] == [1000, 1000]
    (asked,) = [args for operation, args in control.requests.seen if operation == "reserve"]
    assert (asked["kind"], asked["args"]) == (KIND, {"gate": 0.5})


def test_given_arguments_when_reserved_then_control_gets_them_and_others_use_the_boards(
    icebus: Icebus, control: ScriptedControl, circuits: list[Path]
) -> None:
    name = icebus("reserve", 2, "--kind", KIND, "--arg", "gate=2").stdout.strip()
    (asked,) = [args for operation, args in control.requests.seen if operation == "reserve"]
    assert asked["args"] == {"gate": 2}
    done = icebus("evaluate", "-r", name, circuits[0], "-o", "name", "-s", "d1")
    assert done.stdout == f"{circuits[0].name} d1 1000.0\n"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--arg", "gates=1"], 6, "no argument 'gates'; a reservation for frequency takes gate:"),
        (["--arg", "gate=11"], 6, "gate: 11 is not at most 10"),
        (["--arg", "gate=0"], 6, "gate: 0 is not above 0"),
        (["--arg", "gate=long"], 6, "gate: 'long' is no number"),
        (["--measure", "gate=1"], 6, "a measurement of frequency takes repeats: integer = 1"),
        (["--measure", "repeats=1.5"], 6, "repeats: 1.5 is no integer"),
        (["--kind", "temperature"], 3, "no worker offers kind 'temperature'; there are frequency"),
        (["--kind", "plain"], 6, "kind plain measures no bitstreams; frequency can"),
    ],
)
def test_given_wrong_arguments_when_evaluated_then_the_error_names_what_there_is(
    icebus: Icebus,
    control: ScriptedControl,
    w1: FrequencyWorker,
    circuits: list[Path],
    words: list[str],
    code: int,
    told: str,
) -> None:
    w1.offer(plain=offer().model_copy(update={"methods": {}}))
    done = icebus("evaluate", "--kind", KIND, circuits[0], *words)
    assert done.code == code
    assert told in done.stderr
    assert "reserve" not in {operation for operation, _ in control.requests.seen}


def test_given_a_kind_that_nobody_offers_when_asked_for_columns_then_there_are_those_of_all() -> (
    None
):
    assert measured_fields(None) == []
    assert [column.key for column in columns([])] == ["bitstream", "serial"]


def test_given_a_kind_when_completing_then_its_name_and_arguments_are_offered(
    icebus: Icebus,
) -> None:
    context = typer.Context(typer.main.get_command(typer.Typer(callback=lambda: None)))
    context.params = {"kind": KIND}
    assert complete_measuring_kind(context, "fr") == [(KIND, "Hertz on a pin.")]
    assert complete_reservation_argument(context, "") == [("gate=", "Seconds to count for.")]
    assert complete_measurement_argument(context, "rep") == [("repeats=", "Times to measure.")]


# --- columns and pictures ------------------------------------------------------------------------


def shown(**values: object) -> list[str]:
    """The columns of a table of one pulse count."""
    info = KindInfo(
        firmware="icebus",
        args={},
        events={"results": EventInfo(data=PulseCountResult.model_json_schema())},
    )
    return [column.title for column in columns(measured_fields(info), [values])]


def test_given_results_when_shown_in_a_table_then_only_what_they_tell_takes_room() -> None:
    plain = ["BITSTREAM", "SERIAL", "PULSES", "EXACT", "NOTE"]
    assert shown(pulses=1) == plain
    assert shown(pulses=1, frequency=None, pin_pulses={"27": 1}) == plain
    assert shown(pulses=1, frequency=2.0, pin_pulses={"27": 1, "25": 0}) == [
        *plain[:3],
        "FREQUENCY",
        "PIN PULSES",
        *plain[3:],
    ]


@pytest.mark.parametrize("command", ["evaluate", "map"])
def test_given_a_file_to_draw_into_when_measured_then_there_is_a_picture(
    icebus: Icebus, circuits: list[Path], tmp_path: Path, command: str
) -> None:
    picture = tmp_path / "hertz.png"
    done = icebus(command, "--kind", KIND, "--plot", picture, *circuits)
    assert done.code == 0, done.stderr
    assert f"drawn: {picture}" in done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "told"), [("a.xyz", "ending"), ("no/a.png", "there is no folder")]
)
def test_given_a_file_that_cant_be_drawn_into_then_that_is_told_before_anything_is_reserved(
    icebus: Icebus, control: ScriptedControl, circuits: list[Path], name: str, told: str
) -> None:
    done = icebus("evaluate", "--kind", KIND, "--plot", name, circuits[0])
    assert (done.code, told in " ".join(done.stderr.replace("│", " ").split())) == (2, True)
    assert "reserve" not in {operation for operation, _ in control.requests.seen}


@pytest.mark.parametrize("command", ["evaluate", "map"])
def test_given_a_file_that_cant_be_written_when_measured_then_the_results_are_printed_all_the_same(
    icebus: Icebus, circuits: list[Path], tmp_path: Path, command: str
) -> None:
    (tmp_path / "a.png").mkdir()
    done = icebus(command, "--kind", KIND, "--plot", tmp_path / "a.png", circuits[0])
    assert done.code == 1
    assert "a.png: not drawn: Is a directory" in done.stderr
    assert done.stdout.splitlines()[1].split()[:2] == [circuits[0].name, "d1"]


def test_given_a_bitstream_on_stdin_when_measured_then_it_is_sent_as_if_it_were_a_file(
    icebus: Icebus, circuits: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    piped = io.TextIOWrapper(io.BytesIO(circuits[0].read_bytes()))
    monkeypatch.setattr(sys, "stdin", piped)
    (row,) = icebus("map", "--kind", KIND, "-", "-o", "json").json()
    assert (row["bitstream"], row["file"]) == ("stdin", "-")


@pytest.mark.parametrize("form", ["table", "json"])
def test_given_ctrl_c_in_the_middle_when_measuring_then_what_came_before_is_printed(
    icebus: Icebus,
    circuits: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    def interrupted(printer: OutcomePrinter, outcome: GenericResult | Failure) -> None:
        prints(printer, outcome)
        raise KeyboardInterrupt

    prints = OutcomePrinter.print
    monkeypatch.setattr(OutcomePrinter, "print", interrupted)
    done = icebus("map", "--kind", KIND, *circuits, "-o", form)
    assert done.code == 130
    assert any(each.name in done.stdout for each in circuits)


def test_given_no_matplotlib_when_a_picture_is_wanted_then_the_command_that_installs_it_is_told(
    icebus: Icebus, circuits: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    done = icebus("evaluate", "--kind", KIND, "--plot", "a.png", circuits[0])
    assert done.code == 5
    assert install_extra("plot") in done.stderr


def waveform_of(name: str, samples: list[int]) -> VarianceResult:
    return VarianceResult(
        serial="d1",
        evaluation="e",
        batch="b",
        bitstream=name,
        sha256="0" * 64,
        at=now(),
        upload=0.1,
        window=0.1,
        mean_difference=1.0,
        lowest=min(samples),
        highest=max(samples),
        samples=len(samples),
        rate=10_000.0,
        exact=True,
        waveform=samples,
    )


@pytest.mark.parametrize("count", [1, MOST_WAVEFORMS + 1])
def test_given_waveforms_then_they_are_drawn_and_what_is_left_out_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    plot = Plot(tmp_path / "a.svg", None)
    for number in range(count):
        plot.add(waveform_of(f"{number}.bin", [0, number, 4095]))
    plot.save()
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn.startswith("<?xml")
    left_out = f"the first {MOST_WAVEFORMS} of {count}" in capsys.readouterr().err
    assert left_out == (count > MOST_WAVEFORMS)


def test_given_no_result_then_nothing_is_drawn_and_that_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Plot(tmp_path / "a.png", None).save()
    assert not (tmp_path / "a.png").exists()
    assert "there is no result" in capsys.readouterr().err


def test_given_a_kind_with_waveforms_when_drawn_then_they_are_asked_for_unless_forbidden() -> None:
    schema = {"properties": {"args": VarianceMeasurement.model_json_schema()}}
    info = KindInfo(
        firmware="icebus", args={}, methods={"evaluate": MethodInfo(args=schema, returns={})}
    )
    assert with_waveform(info, {}, Path("a.png")) == {"waveform": True}
    assert with_waveform(info, {"waveform": False}, Path("a.png")) == {"waveform": False}
    assert with_waveform(info, {}, None) == {}
