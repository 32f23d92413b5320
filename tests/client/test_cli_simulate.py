"""``icebus simulate``: counts, reasons and forms, without a farm."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.command_line import Done, Icebus, in_this_process

from icebus.client.cli.commands.circuits import simulate as command
from icebus.client.cli.commands.circuits.simulate import FIELDS
from icebus.schemas.programs.installation import install_extra

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "fpga" / "corpus"
EXAMPLES = ROOT / "examples" / "circuits"
DEADLINE = 60


def rows_of(done: Done) -> list[dict[str, Any]]:
    """What was told of each bitstream, also by a command that failed for some."""
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.fixture
def icebus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Icebus]:
    """The command line, in this process."""
    with in_this_process(monkeypatch, capsys) as run:
        yield run


@pytest.fixture
def circuit(tmp_path: Path) -> Callable[[str], Path]:
    """The file of a bitstream of the corpus."""

    def write(name: str) -> Path:
        path = tmp_path / f"{name}.bin"
        path.write_bytes(gzip.decompress((CORPUS / f"{name}.bin.gz").read_bytes()))
        return path

    return write


@pytest.mark.parametrize("count", [1, 40])
def test_given_a_bitstream_on_stdin_when_simulated_then_it_is_counted_among_the_others(
    icebus: Icebus, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    example = EXAMPLES / "pulse_2khz.bin"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(example.read_bytes())))
    others = [EXAMPLES / "pulse_8khz.bin"] * (count - 1)
    rows = rows_of(icebus("simulate", "-", *others, "-o", "json"))
    assert [row["pulses"] for row in rows] == [2000] + [8000] * (count - 1)
    assert rows[0]["file"] == "-"


def test_given_stdin_twice_when_simulated_then_that_is_wrong_usage(icebus: Icebus) -> None:
    done = icebus("simulate", "-", "-")
    assert done.code == 2
    assert "more than once" in done.stderr


@pytest.mark.parametrize("words", [("-h",), ("simulate", "-h"), ("admin", "drain", "-h")])
def test_given_a_short_option_for_help_then_it_helps(icebus: Icebus, words: list[str]) -> None:
    done = icebus(*words)
    assert done.code == 0
    assert "Usage" in done.stdout


def test_given_examples_when_simulated_then_a_table_has_their_counts(icebus: Icebus) -> None:
    done = icebus("simulate", *sorted(EXAMPLES.glob("*.bin")))

    assert done.code == 0, done.stderr
    header, *rows = (line.split() for line in done.stdout.splitlines())
    assert header == ["FILE", "PULSES", "EXACT", "DRIVER", "BLOCKS", "NOTE"]
    assert [row[1:3] for row in rows] == [["2000", "yes"], ["32000", "yes"], ["8000", "yes"]]


def test_given_a_window_when_simulated_then_it_is_what_is_counted(icebus: Icebus) -> None:
    done = icebus("simulate", EXAMPLES / "pulse_2khz.bin", "--window", "0.05", "-o", "json")

    assert [row["pulses"] for row in rows_of(done)] == [100]


def test_given_a_bitstream_of_another_size_when_simulated_then_the_note_says_what_boards_get(
    icebus: Icebus, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.bin"
    bare.write_bytes((EXAMPLES / "pulse_2khz.bin").read_bytes()[4:])

    (row,) = rows_of(icebus("simulate", bare, "-o", "json"))

    assert (row["pulses"], row["exact"]) == (2000, True)
    assert row["note"].startswith("brought from 104,086 bytes to the boards' 104,090")


def test_given_json_when_simulated_then_every_row_has_all_fields(
    icebus: Icebus, circuit: Callable[[str], Path], tmp_path: Path
) -> None:
    good, unknown, absent = circuit("divider_3khz"), circuit("bram"), tmp_path / "absent.bin"

    done = icebus("simulate", good, unknown, absent, "-o", "json")

    assert done.code == 1
    assert [tuple(row) for row in rows_of(done)] == [FIELDS] * 3
    counted, refused, missing = rows_of(done)
    assert counted["file"] == str(good)
    assert (counted["pulses"], counted["exact"], counted["note"]) == (3000, True, "")
    assert counted["driver"] == "flip-flop"
    assert counted["blocks"]["flip_flops"] == 33
    assert counted["error"] is None
    assert (refused["pulses"], refused["exact"]) == (None, None)
    assert refused["blocks"]["block_rams"] == 1
    assert refused["error"]["code"] == "bitstream_unsupported"
    assert refused["error"]["details"]["primitive"] == "SB_RAM40_4K"
    assert missing["error"]["code"] == "invalid_request"
    assert "No such file" in missing["error"]["message"]
    assert (missing["driver"], missing["blocks"]) == (None, None)


def test_given_a_file_without_count_when_simulated_then_stderr_says_why_and_stdout_has_the_rest(
    icebus: Icebus, circuit: Callable[[str], Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.bin"
    broken.write_bytes(b"nonsense")

    done = icebus("simulate", broken, circuit("hfosc"), circuit("clock"), "-o", "name")

    assert done.code == 1
    assert done.stdout.splitlines() == [f"{tmp_path / 'clock.bin'} 48000000"]
    assert f"{broken}: a bitstream for the iCE40UP5K has 104,090 bytes" in done.stderr
    assert "SB_HFOSC" in done.stderr
    assert "2 of 3 bitstreams not counted" in done.stderr


def test_given_files_that_can_not_be_read_when_simulated_then_each_has_an_error_of_its_own(
    icebus: Icebus, circuit: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(300 << 20)
    # Whether a file can be read is found out by reading it; to ask before is a usage error.
    monkeypatch.setattr(os, "access", lambda *_args, **_options: False)

    done = icebus(
        "simulate",
        circuit("clock"),
        tmp_path / "absent",
        large,
        "/dev/zero",
        "-o",
        "json",
    )

    assert done.code == 1
    counted, *refused = rows_of(done)
    assert counted["pulses"] == 48_000_000
    absent, too_large, device = (row["error"]["message"] for row in refused)
    assert absent.startswith("No such file or directory;")
    assert too_large.startswith("314,572,800 bytes are not a bitstream")
    assert device.startswith("1,048,576 or more bytes are not a bitstream")


@pytest.mark.parametrize(
    ("name", "driver"),
    [
        ("undriven", "nothing"),
        ("constant", "constant 1"),
        ("clock", "pin 35 (clock)"),
        ("follows_input", "pin 28"),
        ("ripple", "flip-flop"),
        ("ring", "LUT"),
        ("dsp", "SB_MAC16"),
    ],
)
def test_given_a_circuit_when_simulated_then_what_drives_the_pin_is_named(
    icebus: Icebus, circuit: Callable[[str], Path], name: str, driver: str
) -> None:
    done = icebus("simulate", circuit(name), "--window", "0.01", "-o", "jsonl")

    assert json.loads(done.stdout)["driver"] == driver


def test_given_csv_when_simulated_then_it_has_the_fields_of_json(
    icebus: Icebus, circuit: Callable[[str], Path]
) -> None:
    done = icebus("simulate", circuit("latch"), circuit("pll"), "-o", "csv")

    latch, pll = csv.DictReader(io.StringIO(done.stdout, newline=""), strict=True)
    assert tuple(latch) == FIELDS
    assert (latch["pulses"], latch["exact"]) == ("46875", "false")
    assert "loop" in latch["note"]
    assert json.loads(latch["blocks"])["ios"] == 2
    assert json.loads(pll["error"])["code"] == "bitstream_unsupported"


def test_given_another_pin_when_simulated_then_it_is_the_one_that_counts(
    icebus: Icebus, circuit: Callable[[str], Path]
) -> None:
    path = circuit("divider_3khz")

    driven, none = (
        rows_of(icebus("simulate", path, "--pin", pin, "-o", "json"))[0] for pin in ("27", "39")
    )

    assert (driven["pulses"], driven["driver"]) == (3000, "flip-flop")
    assert (none["pulses"], none["driver"]) == (0, "nothing")


def test_given_a_pin_that_is_no_io_when_simulated_then_the_usage_names_those_that_are(
    icebus: Icebus,
) -> None:
    done = icebus("simulate", EXAMPLES / "pulse_2khz.bin", "--pin", 5)

    assert done.code == 2
    assert "pin 5 is no IO" in done.stderr


def test_given_many_files_when_simulated_in_processes_then_rows_come_in_their_order(
    icebus: Icebus, circuit: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "PARALLEL_FROM", 3)
    names = ("divider_100hz", "bram", "divider_12mhz", "divider_1hz")

    done = icebus("simulate", *map(circuit, names), "-o", "json")

    assert [row["pulses"] for row in rows_of(done)] == [100, None, 12_000_000, 1]
    assert [Path(row["file"]).stem for row in rows_of(done)] == list(names)


def test_given_no_virtual_extra_when_simulated_then_the_error_names_it() -> None:
    code = (
        "import sys\n"
        "sys.modules['numpy'] = None\n"
        "from icebus.client.cli import main\n"
        f"sys.argv = ['icebus', 'simulate', {str(EXAMPLES / 'pulse_2khz.bin')!r}]\n"
        "main()\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=False
    )

    assert done.returncode == 5
    assert install_extra("virtual") in done.stderr
    assert "Traceback" not in done.stderr
