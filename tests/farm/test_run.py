"""`icebus run`, and runs of many files: boards are had for as long as that takes, and no longer."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.farm.conftest import ICEBUS, TIMEOUT, descendants, wait_until

from icebus.client import PulseCountClient
from icebus.client._profiles.profile import Profile

if TYPE_CHECKING:
    from tests.command_line import Icebus
    from tests.farm.conftest import Machine, Up

    from icebus.schemas.operations.reservations import Reservation

IN_PYTHON = """
import sys
from icebus.client import PulseCountClient
with PulseCountClient() as client, client.attach() as boards:
    assert not boards.attached
    print(*boards.serials)
    for result in boards.evaluate(sys.argv[1:]):
        print(result.serial, result.pulses)
"""


@contextmanager
def running(machine: Machine, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`icebus run` with a command that says when it has begun; yields it and the reservation."""
    process = machine.start("run", *words)
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=TIMEOUT)


def reservations(farm: Up) -> list[Reservation]:
    with PulseCountClient(farm=farm.machine.default_profile) as client:
        return client.reservations()


def test_given_a_command_when_it_runs_then_it_has_the_boards_and_its_code_is_ours(
    farm: Up, circuits: Sequence[Path]
) -> None:
    evaluate = " ".join([*ICEBUS, "evaluate", "-o", "name", str(circuits[0])])
    in_python = [sys.executable, "-c", IN_PYTHON, str(circuits[0])]
    script = f'cat; {evaluate} && "$@"; exit 7'

    done = subprocess.run(
        [*ICEBUS, "run", "-n", "2", "--", "sh", "-c", script, "sh", *in_python],
        input="typed\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        env=farm.machine.environment,
    )

    assert done.returncode == 7, done.stderr
    typed, *lines = done.stdout.splitlines()
    assert typed == "typed"
    by_command, (serials, *by_library) = lines[:2], lines[2:]
    assert sorted(line.split()[1] for line in by_command) == sorted(serials.split())
    assert sorted(line.split()[0] for line in by_library) == sorted(serials.split())
    assert reservations(farm) == []


def test_given_a_command_that_can_not_be_run_when_told_to_then_nothing_is_reserved(
    farm: Up, tmp_path: Path
) -> None:
    (tmp_path / "text").touch()
    for name, code in (("no-such-program", 127), (str(tmp_path / "text"), 126)):
        done = farm.machine.run("run", "--", name, ICEBUS_URL="mqtt://nobody@127.0.0.1:1")
        assert done.returncode == code
        assert done.stderr.count("\n") == 1
        assert name in done.stderr


def test_given_signals_when_a_command_runs_then_they_reach_it_and_the_boards_are_free_after(
    farm: Up,
) -> None:
    script = 'trap "echo noted" USR1; echo $ICEBUS_RESERVATION; while :; do sleep 0.05; done'
    with running(farm.machine, "sh", "-c", script) as (process, held):
        assert [each.id for each in reservations(farm)] == [held]
        process.send_signal(signal.SIGUSR1)
        assert process.stdout is not None
        assert process.stdout.readline() == "noted\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 128 + signal.SIGINT
    assert reservations(farm) == []


def test_given_a_reservation_that_is_lost_when_the_command_is_to_end_with_it_then_it_does(
    farm: Up,
) -> None:
    script = "echo $ICEBUS_RESERVATION; exec sleep 100"
    with running(farm.machine, "--kill-on-loss", "sh", "-c", script) as (process, held):
        (child,) = descendants(process.pid)
        with PulseCountClient(farm=farm.machine.default_profile) as client:
            client.end(held)
        assert process.wait(TIMEOUT) == 128 + signal.SIGTERM
        assert process.stderr is not None
        assert f"reservation {held} has ended (released)" in process.stderr.read()
    wait_until(lambda: not Path(f"/proc/{child}").exists())


def test_given_a_folder_when_measured_several_times_then_each_is_summed_up_and_nothing_else_said(
    icebus: Icebus, circuits: Sequence[Path], tmp_path: Path
) -> None:
    for name, circuit in (("g10.bin", circuits[0]), ("g2.bin", circuits[1])):
        shutil.copy(circuit, tmp_path / name)
    done = icebus("evaluate", "--repeat", "3", "--quiet", tmp_path)
    assert (done.code, done.stderr) == (0, "")
    title, *lines = (line.split() for line in done.stdout.splitlines())
    assert title == ["BITSTREAM", "SERIAL", "N", "MEDIAN", "PULSES", "SPREAD"]
    assert [(line[0], line[2]) for line in lines] == [("g2.bin", "3"), ("g10.bin", "3")]
    rows = icebus("map", "--repeat", "2", "-o", "json", tmp_path / "g2.bin").json()
    assert [row["bitstream"] for row in rows] == ["g2.bin", "g2.bin"]


def test_given_a_run_when_its_time_is_up_then_it_says_so_and_holds_nothing(
    icebus: Icebus, circuits: Sequence[Path]
) -> None:
    done = icebus("evaluate", "--timeout", "0.001s", *circuits)
    assert done.code == 124
    assert "time" in done.stderr
    assert icebus("reservations", "-o", "name").stdout == ""


def test_given_a_farm_that_is_named_when_a_command_runs_then_it_is_the_commands_too(
    farm: Up,
) -> None:
    script = "test -z $ICEBUS_URL && echo $ICEBUS_FARM"
    done = farm.machine.run(
        *("--farm", "ben", "run", "--", "sh", "-c", script), ICEBUS_URL="mqtt://nobody@127.0.0.1:1"
    )
    assert done.returncode == 0, done.stderr
    assert Profile.read(Path(done.stdout.strip())).user == "ben"
