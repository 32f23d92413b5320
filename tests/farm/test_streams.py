"""Commands whose streams a shell has closed, led to a full disk, or given another encoding."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.farm.conftest import ICEBUS, TIMEOUT, Machine, Up

CIRCUIT = Path(__file__).parents[2] / "examples" / "circuits" / "pulse_2khz.bin"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    machine = Machine(tmp_path_factory.mktemp("home"))
    with machine.up("--boards", "1", "--speedup", "50") as farm:
        yield farm


def shell(up: Up, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which `icebus` is the command."""
    return subprocess.run(
        ["bash", "-c", f'icebus() {{ {shlex.join(ICEBUS)} "$@"; }}; {line}'],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        env={**up.machine.environment, **environment},
    )


@pytest.fixture
def circuit(tmp_path: Path) -> Path:
    """A bitstream whose name not every encoding has."""
    path = tmp_path / "\N{LATIN SMALL LETTER U WITH DIAERESIS}.bin"
    shutil.copy(CIRCUIT, path)
    return path


@pytest.mark.parametrize("command", ["devices", "devices -o json", "profile", "--help"])
@pytest.mark.parametrize(
    ("to", "reason"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
def test_given_a_stdout_that_takes_nothing_when_data_is_printed_then_a_line_says_why(
    up: Up, command: str, to: str, reason: str
) -> None:
    done = shell(up, f"icebus {command} {to}")
    assert done.returncode == 1
    assert done.stderr == f"icebus: can't write to stdout: {reason}\n"


def test_given_a_reader_that_has_seen_enough_when_more_is_printed_then_nothing_is_said(
    up: Up,
) -> None:
    done = shell(up, "icebus history -o jsonl | true; exit ${PIPESTATUS[0]}")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("table", r"\xfc.bin"),
        ("name", r"\xfc.bin"),
        ("csv", r"\xfc.bin"),
        ("json", r"\u00fc.bin"),
        ("jsonl", r"\u00fc.bin"),
    ],
)
def test_given_an_encoding_without_a_names_characters_when_results_come_then_each_is_printed(
    up: Up, circuit: Path, form: str, expected: str
) -> None:
    line = f"icebus map -n 1 -o {form} {shlex.quote(str(circuit))}"
    done = shell(up, line, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_given_a_closed_stderr_when_boards_are_used_then_only_messages_are_lost(
    up: Up, circuit: Path
) -> None:
    done = shell(up, f"icebus map -n 1 -o name {shlex.quote(str(circuit))} 2>&-")
    assert done.returncode == 0
    assert done.stdout.count(circuit.name) == 1


def test_given_all_streams_closed_when_a_command_runs_then_it_works(up: Up) -> None:
    done = shell(up, "icebus devices <&- >&- 2>&-")
    assert done.returncode == 1


@pytest.mark.parametrize("form", ["name", "csv", "jsonl", "table"])
def test_given_names_that_a_terminal_would_obey_when_printed_there_then_they_are_escaped(
    up: Up, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "a\x1b[2Jb\N{RIGHT-TO-LEFT OVERRIDE}c.bin"
    shutil.copy(CIRCUIT, path)
    command = shlex.join([*ICEBUS, "evaluate", str(path), "-o", form])
    # util-linux's script gives it a terminal.
    done = shell(up, f"script -qec {shlex.quote(command)} /dev/null 2>&1")
    printed = done.stdout.replace("\x1b[K", "")
    assert done.returncode == 0
    assert "\x1b[2J" not in printed
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in printed


def test_given_a_name_with_a_newline_when_names_are_printed_then_it_is_one_line(
    up: Up, tmp_path: Path
) -> None:
    path = tmp_path / "a\nforged 1000.bin"
    shutil.copy(CIRCUIT, path)
    done = shell(up, f"icebus evaluate {shlex.quote(str(path))} -o name")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_given_a_stderr_that_takes_nothing_when_boards_are_used_then_only_messages_are_lost(
    up: Up, circuit: Path, form: str
) -> None:
    done = shell(up, f"icebus -v map -n 1 -o {form} {shlex.quote(str(circuit))} 2>/dev/full")
    assert done.returncode == 0
    assert done.stdout.count("2000") >= 1
