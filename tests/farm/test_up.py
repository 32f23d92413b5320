"""`icebus up`: it comes up, stays up, and goes down, however it is told to."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.farm.conftest import alive, descendants

from icebus.client import PulseCountClient
from icebus.client.dashboard.built import is_built
from icebus.schemas.errors import DeadlineExceeded, UnknownKind

if TYPE_CHECKING:
    from tests.farm.conftest import Machine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children die with us on Linux")


def test_given_a_command_when_boards_are_ready_then_it_runs_and_its_code_is_ours(
    machine: Machine,
) -> None:
    done = machine.run(
        "up", "--boards", "1", "--", *sys_icebus("available", "-o", "name"), ICEBUS_URL="mqtt://x@y"
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 1
    assert not machine.default_profile.exists()
    assert list(machine.home.glob("icebus-*")) == []
    killed = machine.run("up", "--boards", "0", "--", "sh", "-c", "kill -KILL $$")
    assert killed.returncode == 128 + signal.SIGKILL, killed.stderr


def test_given_no_emulator_when_boards_are_to_be_emulated_then_it_says_what_brings_it(
    machine: Machine,
) -> None:
    missing = machine.run("up", "--emulated", "1", ICEBUS_EMULATOR="/nowhere")
    assert missing.returncode != 0
    assert "ICEBUS_EMULATOR=/nowhere script/emulator" in missing.stderr
    assert not (machine.home / "state/icebus/farm/broker").exists()


def test_given_a_command_that_does_not_exist_when_told_to_run_it_then_no_farm_is_started(
    machine: Machine,
) -> None:
    missing = machine.run("up", "--boards", "1", "--", "no-such-program")
    assert missing.returncode == 127
    assert "no-such-program" in missing.stderr
    assert not (machine.home / "state").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--user", "ann+bob"), "'ann+bob' can't be a user's name"),
        (("--user", "control"), "'control' is reserved"),
        (("-d", "{file}"), "File exists"),
        (("-d", "{file}/farm"), "Not a directory"),
        (("-d", "/proc/farm"), "--directory"),
        (("-d", "{file}-\udcff"), "give a directory with another name"),
        (("-d", "{file}-\n-"), "give a directory with another name"),
        (("-d", "{file}-\x1b[31m-"), "give a directory with another name"),
    ],
)
def test_given_a_user_or_a_directory_that_can_not_be_when_told_to_start_then_a_line_says_so(
    machine: Machine, words: tuple[str, str], said: str
) -> None:
    file = machine.home / "file"
    file.touch()
    done = machine.run("up", "--boards", "0", *(each.format(file=file) for each in words))
    assert done.returncode == 6
    assert said in done.stderr
    assert done.stderr.startswith("icebus: ")
    assert done.stderr.count("\n") == 1


def test_given_a_home_that_can_not_be_written_when_told_to_start_then_a_line_names_the_remedy(
    machine: Machine,
) -> None:
    nowhere = {"XDG_STATE_HOME": "/proc/state"}
    done = machine.run("up", "--boards", "0", **nowhere)
    assert done.returncode == 6
    assert "--directory" in done.stderr
    elsewhere = ("--boards", "0", "-d", str(machine.home / "farm"))
    assert machine.run("up", *elsewhere, "--", "true", **nowhere).returncode == 0


def test_given_boards_on_usb_when_they_are_wanted_then_the_worker_owns_them_too(
    machine: Machine,
) -> None:
    place = machine.home / "usb"
    show = (
        "import pathlib, sys\n"
        "for each in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
        "    line = each.read_bytes().decode().replace(chr(0), ' ')\n"
        "    if sys.argv[1] in line: print(line)"
    )
    words = ["--boards", "0", "--usb", "-d", str(place)]
    done = machine.run("up", *words, "--", sys.executable, "-c", show, f"{place}/worker")
    assert done.returncode == 0, done.stderr
    [worker] = [line for line in done.stdout.splitlines() if "icebus.worker.cli" in line]
    assert " --usb " in worker
    assert f" --rack {place}/rack " in worker


def sys_icebus(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "icebus.client.cli", *arguments]


def test_given_a_farm_when_told_to_stop_then_nothing_is_left_and_it_comes_back_as_it_was(
    machine: Machine, circuits: Sequence[Path]
) -> None:
    options = ("--boards", "1", "--window", "0.05", "--seed", "3", "--user", "ann")
    with machine.up(*options) as up:
        children = up.children()
        assert len(children) == (5 if is_built() else 4)
        assert (up.directory / "profiles/observer.json").stat().st_mode & 0o777 == 0o600
        assert machine.default_profile.stat().st_mode & 0o777 == 0o600
        again = machine.run("up", "--boards", "1")
        assert again.returncode == 1
        assert "--directory" in again.stderr
        url = up.url
        reserved = machine.run("reserve")
        assert reserved.returncode == 0, reserved.stderr
        (name,) = reserved.stdout.split()
    assert up.process.returncode == 0
    assert not machine.default_profile.exists()
    assert not any(alive(pid) for pid in children)
    with machine.up(*options) as up:
        assert up.url == url
        assert [each["id"] for each in machine.json("reservations")] == [name]
        (result,) = machine.json("evaluate", str(circuits[0]))
        assert 98 <= result["pulses"] <= 100
        assert machine.run("release", "--all").stdout == f"{name} released\n"
        up.process.send_signal(signal.SIGINT)
        up.process.wait(30)
    assert up.process.returncode == 0


def test_given_a_farm_in_the_background_when_it_is_taken_down_then_nothing_is_left_of_it(
    machine: Machine,
) -> None:
    assert machine.run("status").returncode == 3
    assert machine.run("down").returncode == 0
    place = machine.home / "farms" / "lab"
    up = ("up", "--detach", "--boards", "0", "--no-dashboard", "-d", str(place))
    try:
        started = machine.run(*up)
        assert started.returncode == 0, started.stderr
        assert str(place / "up.log") in started.stderr
        (told,) = machine.json("status")
        assert (told["directory"], told["state"], told["boards"]) == (str(place), "up", 0)
        again = machine.run(*up)
        assert again.returncode == 1
        assert "is up already" in again.stderr
        children = descendants(told["pid"])
        assert machine.run("down", "elsewhere").returncode == 3
    finally:
        ended = machine.run("down", "lab")
    assert (ended.returncode, ended.stdout) == (0, f"{place} is down\n")
    assert not any(alive(pid) for pid in (told["pid"], *children))
    assert machine.run("status").returncode == 3
    assert not machine.default_profile.exists()


def test_given_fewer_boards_than_before_when_the_farm_comes_back_then_the_others_are_gone(
    machine: Machine, tmp_path: Path
) -> None:
    place = ("--directory", str(tmp_path / "farm"))
    assert machine.run("up", "--boards", "2", *place, "--", "true").returncode == 0
    fewer = machine.run("up", "--boards", "1", *place, "--", *sys_icebus("devices", "-o", "name"))

    assert len(fewer.stdout.split()) == 1, fewer.stderr
    assert "1 former board forgotten: " in fewer.stderr


def test_given_a_farm_in_the_background_when_it_does_not_come_up_then_its_end_is_told_in_front(
    machine: Machine,
) -> None:
    try:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            failed = machine.run("up", "--detach", "--boards", "0", "--port", port)
    finally:
        machine.run("down", "--all")
    assert failed.returncode == 5, failed.stderr
    assert "did not come up" in failed.stderr
    assert port in failed.stderr
    assert machine.run("status").returncode == 3


def test_given_a_request_in_the_queue_when_the_farm_comes_back_then_it_is_up(
    machine: Machine,
) -> None:
    place = ("-d", str(machine.home / "farm"), "--boards", "2")
    with machine.up(*place):
        assert machine.run("reserve", "1", "--duration", "1h").returncode == 0
        waiting = machine.start("reserve", "2", "--wait", "1h")
        try:
            until(lambda: len(machine.json("reservations")) == 2)
        finally:
            waiting.kill()
            waiting.communicate()
    done = machine.run("up", *place, "--", *sys_icebus("reservations", "-o", "name"))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 2


def test_given_a_board_in_quarantine_when_the_farm_comes_back_then_it_is_up(
    machine: Machine,
) -> None:
    place = ("-d", str(machine.home / "farm"), "--boards", "2")
    with machine.up(*place):
        [serial, _] = [each["serial"] for each in machine.json("devices")]
        put = machine.run("--farm", "admin", "admin", "quarantine", serial, "--reason", "x")
        assert put.returncode == 0, put.stderr
    done = machine.run("up", *place, "--", *sys_icebus("available", "-o", "name"))
    assert done.returncode == 0, done.stderr
    assert serial not in done.stdout


def test_given_a_farm_when_it_is_killed_then_all_its_parts_end(machine: Machine) -> None:
    with machine.up("--boards", "1") as up:
        children = up.children()
        os.kill(up.process.pid, signal.SIGKILL)
        up.process.wait(30)
        until(lambda: not any(alive(pid) for pid in children))


def test_given_a_part_that_dies_when_the_farm_is_up_then_it_is_started_again(
    machine: Machine, circuits: Sequence[Path]
) -> None:
    with (
        machine.up("--boards", "1", "--window", "0.05") as up,
        PulseCountClient(up.url, timeout=30) as client,
    ):
        for part in ("icebus.control.cli", "icebus.rack.cli", "icebus.worker.cli", "mosquitto"):
            killed = up.child(part)
            os.kill(killed, signal.SIGKILL)
            until(lambda killed=killed: killed not in up.children() and len(up.children()) == 4)
            until(lambda: len(available(client)) == 1)
            with client.reserve(1) as boards:
                assert len(list(boards.evaluate(circuits[:1]))) == 1, part


def available(client: PulseCountClient) -> list[str]:
    try:
        return client.available(timeout=3)
    except (DeadlineExceeded, UnknownKind):
        return []


def until(condition: object) -> None:
    from time import monotonic, sleep

    assert callable(condition)
    end = monotonic() + 60
    while not condition():
        assert monotonic() < end, "it did not come true in time"
        sleep(0.05)
