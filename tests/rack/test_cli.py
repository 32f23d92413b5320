from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import serial

from icebus.rack.cli import main
from icebus.rack.rack import Rack
from icebus.schemas.boards.rack import read_boards, read_rack_file
from icebus.schemas.programs.installation import install_extra

pytestmark = pytest.mark.slow

Start = Callable[..., "subprocess.Popen[str]"]
DEADLINE = 30.0


@dataclass
class Result:
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Call ``icebus-rack``, all but a rack that runs, in this process."""

    def call(*args: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["icebus-rack", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        code = end.value.code
        return Result(code if isinstance(code, int) else 0, captured.out, captured.err)

    return call


def eventually(true: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def descendants(pid: int) -> set[int]:
    """The processes that ``pid`` has started, and those that they have."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found |= {int(child)} | descendants(int(child))
    return found


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def start() -> Iterator[Start]:
    """Run racks as a user does; they are killed at the end."""
    racks: list[subprocess.Popen[str]] = []

    def start(directory: Path, *args: object) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "icebus.rack.cli",
            "run",
            "-d",
            str(directory),
            "--log-level",
            "warning",
        ]
        command += ["--processes", "1", *map(str, args)]
        old = {board.session for board in read_boards(directory)}
        racks.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        eventually(lambda: {board.session for board in read_boards(directory)} - old)
        return racks[-1]

    yield start
    for rack in racks:
        rack.kill()
        rack.communicate(timeout=DEADLINE)


def test_given_a_rack_when_used_and_told_to_end_then_it_leaves_no_folder_and_no_process(
    start: Any, cli: Any, tmp_path: Path
) -> None:
    rack = start(tmp_path, "--boards", 1)

    plugged = cli("plug", "-d", tmp_path, "--chip", "rp2350", "--firmware", "pulse_count")
    port, serial_number = plugged.out.split()
    assert (plugged.code, plugged.err, port) == (0, "", "1-1.2")
    eventually(lambda: len(read_boards(tmp_path)) == 2)

    listed: list[dict[str, Any]] = json.loads(cli("list", "-d", tmp_path, "-o", "json").out)
    assert [board["state"] for board in listed] == ["application", "application"]
    assert listed[1]["serial"] == serial_number
    assert listed[1]["usb"] == "1209:b1c0"
    assert serial_number in cli("list", "-d", tmp_path).out

    session = read_boards(tmp_path)[1].session
    assert cli("fault", port, "babble", "-d", tmp_path).code == 0
    assert [b["fault"] for b in json.loads(cli("list", "-d", tmp_path, "-o", "json").out)] == [
        None,
        "babble",
    ]
    with serial.Serial(str(tmp_path / port / "tty"), timeout=DEADLINE) as host:
        assert host.read_until(b"babble").endswith(b"babble")
    assert cli("fault", serial_number, "-d", tmp_path).code == 0
    assert cli("fault", "1-9.9", "hang", "-d", tmp_path).code == 1
    assert read_boards(tmp_path)[1].session == session, "it was never unplugged"

    assert cli("unplug", serial_number, "-d", tmp_path).code == 0
    eventually(lambda: len(read_boards(tmp_path)) == 1)

    children = descendants(rack.pid)
    rack.send_signal(signal.SIGTERM)
    assert rack.wait(DEADLINE) == 0
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    eventually(lambda: not any(map(runs, children)))
    assert rack.stderr
    assert rack.stderr.read() == ""


def test_given_a_rack_that_is_killed_when_looked_at_then_nothing_runs_and_the_next_cleans_up(
    start: Any, tmp_path: Path
) -> None:
    rack = start(tmp_path, "--boards", 2, "--seed", 7)
    eventually(lambda: len(read_boards(tmp_path)) == 2)
    children = descendants(rack.pid)
    assert children
    before = read_boards(tmp_path)
    with serial.Serial(str(tmp_path / "1-1.1" / "tty"), timeout=DEADLINE) as port:
        rack.kill()
        with pytest.raises(serial.SerialException):
            port.read_until(b"never printed")
    rack.wait(DEADLINE)
    eventually(lambda: not any(map(runs, children)))
    assert (tmp_path / "1-1.2" / "device.json").exists()
    (tmp_path / "unrelated").mkdir()

    again = start(tmp_path, "--boards", 1, "--seed", 7)

    eventually(lambda: not (tmp_path / "1-1.2").exists())
    assert [board.serial for board in read_boards(tmp_path)] == [before[0].serial]
    assert (tmp_path / "unrelated").exists()
    again.send_signal(signal.SIGINT)
    assert again.wait(DEADLINE) == 0


def test_given_a_rack_file_when_run_without_boards_then_it_is_kept(
    start: Any, cli: Any, tmp_path: Path
) -> None:
    cli("plug", "-d", tmp_path, "--port", "1-2.7", "--serial", "MINE")

    start(tmp_path)

    assert [board.serial for board in read_boards(tmp_path)] == ["MINE"]
    rack = read_rack_file(tmp_path)
    assert rack
    assert [board.port for board in rack.boards] == ["1-2.7"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["unplug", "1-1.9"], "No board '1-1.9' is plugged"),
        (["plug", "--port", "nonsense"], "port"),
        (["plug", "--firmware", "../x"], "firmware"),
        (["plug", "--firmware", "nope"], "icebus, pulse_count"),
    ],
)
def test_given_something_that_can_not_be_when_asked_then_one_line_says_so(
    cli: Any, tmp_path: Path, args: Any, message: Any
) -> None:
    result = cli(*args, "-d", tmp_path)

    assert result.code == 1
    assert message in result.err
    assert len(result.err.splitlines()) == 1
    assert read_rack_file(tmp_path) is None


@pytest.mark.parametrize("command", ["list", "plug"])
def test_given_a_broken_rack_file_when_used_then_it_is_named(
    cli: Any, tmp_path: Path, command: Any
) -> None:
    (tmp_path / "rack.json").write_text("{")

    result = cli(command, "-d", tmp_path)

    assert result.code == 1
    assert "rack.json is not a rack file" in result.err


def test_given_two_boards_when_plugged_by_hand_then_ports_and_serials_differ(
    cli: Any, tmp_path: Path
) -> None:
    first = cli("plug", "-d", tmp_path)
    second = cli("plug", "-d", tmp_path)

    assert "icebus-rack run" in first.err
    assert first.out.split()[0] == "1-1.1"
    assert second.out.split()[0] == "1-1.2"
    assert first.out.split()[1] != second.out.split()[1]
    assert "absent" in cli("list", "-d", tmp_path).out
    assert cli("plug", "-d", tmp_path, "--port", "1-1.1").code == 1


def test_given_no_virtual_extra_when_run_then_the_error_names_it(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "icebus.rack.rack", None)

    result = cli("run", "-d", tmp_path / "rack")

    assert result.code == 1
    assert install_extra("virtual") in result.err


def test_given_no_virtual_extra_when_asked_for_help_then_it_is_given() -> None:
    code = (
        "import sys\n"
        "for name in ('watchdog', 'numpy', 'serial'): sys.modules[name] = None\n"
        "from icebus.rack.cli import main\n"
        "sys.argv = ['icebus-rack', 'run', '--help']\n"
        "main()\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=True
    )

    assert "--bandwidth" in result.stdout


@pytest.mark.parametrize("option", ["temperature", "drift", "drift-period", "slowdown", "jitter"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1000", "many"])
def test_given_a_disturbance_that_can_not_be_when_run_then_it_is_refused_by_name(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str, value: str
) -> None:
    monkeypatch.setattr(Rack, "__init__", None)  # it must not come so far
    monkeypatch.setenv(f"ICEBUS_RACK_{option.replace('-', '_').upper()}", value)
    assert cli("run", "-d", tmp_path).code == 2
    done = cli("run", "-d", tmp_path, f"--{option}", value)
    assert done.code == 2
    assert f"--{option}" in done.err


def test_when_boards_are_plugged_by_hand_then_they_have_the_racks_own_serials(
    cli: Any, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        cli("plug", "-d", tmp_path / name)
        cli("plug", "-d", tmp_path / name)

    racks = [read_rack_file(tmp_path / name) for name in ("a", "b")]
    assert len({board.serial for rack in racks if rack for board in rack.boards}) == 4
