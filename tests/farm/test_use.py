"""What users do with a farm, by command line and library, rightly and wrongly."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from icebus.client import EvaluationsFailed, Failure, PulseCountClient, Result
from icebus.client._profiles.farm_directory import profile_path
from icebus.client._profiles.profile import Profile
from icebus.schemas.errors import Forbidden, UnknownReservation, WorkerLost

if TYPE_CHECKING:
    from tests.farm.conftest import Up

WINDOW = 0.05
COUNTS = {"pulse_2khz.bin": 100, "pulse_8khz.bin": 400, "pulse_32khz.bin": 1600}
"""Pulses in the window, of which the real window of up to 1 ms less takes some."""


def right(name: str, pulses: int) -> bool:
    whole = COUNTS[name]
    return whole * (WINDOW - 0.0011) / WINDOW - 1 <= pulses <= whole


def client_of(farm: Up, user: str) -> PulseCountClient:
    return PulseCountClient(farm=profile_path(farm.directory, user))


def until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


def nothing_is_held(farm: Up) -> bool:
    return bool(farm.machine.json("reservations", "--all") == [])


def test_given_circuits_when_evaluated_on_all_boards_then_the_counts_are_the_circuits(
    farm: Up, circuits: Sequence[Path]
) -> None:
    names = [str(path) for path in circuits]
    rows = farm.machine.json("evaluate", "-n", "3", *names)
    assert [row["bitstream"] for row in rows] == [p.name for p in circuits for _ in range(3)]
    assert len({row["serial"] for row in rows}) == 3
    assert all(row["exact"] and right(row["bitstream"], row["pulses"]) for row in rows)
    assert nothing_is_held(farm)


def test_given_a_bitstream_of_another_size_when_evaluated_then_it_counts_and_the_note_says_so(
    farm: Up, circuits: Sequence[Path], tmp_path: Path
) -> None:
    bare = tmp_path / circuits[0].name
    bare.write_bytes(circuits[0].read_bytes()[4:-1])
    (row,) = farm.machine.json("evaluate", str(bare))
    assert row["exact"]
    assert right(row["bitstream"], row["pulses"])
    assert row["note"].startswith("brought from 104,085 bytes")


def test_given_the_readme_s_snippet_when_run_then_it_prints_a_line_for_each(farm: Up) -> None:
    script = Path(__file__).parents[2] / "examples" / "evaluate.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        env=farm.machine.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 6
    assert all(right(name, int(pulses)) for _, name, pulses in lines)


def test_given_a_reservation_when_evaluating_then_its_boards_are_used_and_kept(
    farm: Up, circuits: Sequence[Path]
) -> None:
    reserved = farm.machine.run("reserve", "2", "--duration", "10m", "--shell")
    assert reserved.returncode == 0, reserved.stderr
    name = reserved.stdout.strip().removeprefix("export ICEBUS_RESERVATION=")
    (held,) = farm.machine.json("reservations")
    serials = {device["serial"] for device in held["devices"]}
    by_default = farm.machine.run("evaluate", str(circuits[0]), "-o", "jsonl")
    rows = [json.loads(line) for line in by_default.stdout.splitlines()]
    assert {row["serial"] for row in rows} == serials
    by_name = farm.machine.run(
        "evaluate", str(circuits[0]), "-s", min(serials), "-o", "jsonl", ICEBUS_RESERVATION=name
    )
    assert [json.loads(line)["serial"] for line in by_name.stdout.splitlines()] == [min(serials)]
    devices = {row["serial"]: row["state"] for row in farm.machine.json("devices")}
    assert sorted(devices.values()) == ["ready", "serving", "serving"]
    assert farm.machine.run("release", name).stdout == f"{name} released\n"
    assert nothing_is_held(farm)


def test_given_a_terminal_when_evaluating_then_progress_goes_there_and_data_to_stdout(
    farm: Up, circuits: Sequence[Path]
) -> None:
    terminal, side = os.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "icebus.client.cli", "evaluate", str(circuits[0]), "-o", "jsonl"],
        env={**farm.machine.environment, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=side,
        text=True,
    )
    os.close(side)
    drawn = b""
    with contextlib.suppress(OSError):  # it ends with an error once the other side is closed
        while data := os.read(terminal, 4096):
            drawn += data
    os.close(terminal)
    told, _ = run.communicate(timeout=30)
    assert run.returncode == 0
    assert json.loads(told)["bitstream"] == circuits[0].name
    assert b"evaluating" in drawn
    assert b"pulses" not in drawn


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["reserve", "9"], 4, "9 devices"),
        (["reserve", "--kind", "nonsense"], 3, "nonsense"),
        (["reserve", "--serial", "nonsense"], 3, "icebus devices"),
        (["reserve", "--duration", "nonsense"], 2, "nonsense"),
        (["release", "nonsense"], 3, "icebus reservations"),
        (["evaluate", "nonsense.bin"], 6, "nonsense.bin"),
        (["evaluate"], 2, "FILES"),
        (["devices", "-o", "nonsense"], 2, "nonsense"),
        (["nonsense"], 2, "nonsense"),
        (["--farm", "nonsense", "devices"], 5, "observer"),
    ],
)
def test_given_a_mistake_when_made_then_one_error_names_it_and_nothing_is_reserved(
    farm: Up, arguments: list[str], code: int, told: str
) -> None:
    done = farm.machine.run(*arguments)
    assert done.returncode == code, done.stderr
    assert told.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_given_broken_files_when_evaluated_then_each_is_named_before_anything_is_reserved(
    farm: Up, circuits: Sequence[Path], tmp_path: Path
) -> None:
    good = circuits[0].read_bytes()
    flipped = bytearray(good)
    flipped[50_000] ^= 4
    files = {
        "short.bin": b"0123456789",
        "random.bin": os.urandom(104_090),
        "flipped.bin": bytes(flipped),
        "large.bin": bytes(10_000_000),
        "longer.bin": good + b"\1" * 100,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    done = farm.machine.run("evaluate", *[str(tmp_path / n) for n in files], str(circuits[0]))
    assert done.returncode == 6
    assert all(str(tmp_path / name) in done.stderr for name in files)
    assert len(done.stderr.splitlines()) <= len(files) + 1
    assert nothing_is_held(farm)
    sent = farm.machine.run(
        "evaluate", "--no-validate", str(tmp_path / "flipped.bin"), "-o", "json"
    )
    (row,) = json.loads(sent.stdout)
    assert (row["pulses"], row["cdone"]) == (0, False)


def test_given_another_user_when_they_meddle_then_they_are_refused(
    farm: Up, circuits: Sequence[Path]
) -> None:
    with client_of(farm, "ann") as ann, client_of(farm, "ben") as ben, ann.reserve(1) as boards:
        with pytest.raises(Forbidden):
            ben.end(boards.id)
        with pytest.raises(Forbidden):
            ben.extend(boards.id, 60)
        with pytest.raises(UnknownReservation):
            ben.attach(boards.id)
        done = farm.machine.run("--farm", "ben", "release", boards.id)
        assert done.returncode == 3
        assert "ann" in done.stderr
        with ben.reserve(1) as mine:
            stolen = list(boards.serials)
            mine._state.document = boards.document.model_copy(update={"id": mine.id})
            with pytest.raises(EvaluationsFailed) as caught:
                list(mine.evaluate(circuits[:1], serials=stolen))
            assert [f.error.code for f in caught.value.failures] == ["device_not_held"]
        assert len(list(boards.evaluate(circuits[:1]))) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_given_a_run_when_interrupted_then_what_it_reserved_is_released(
    farm: Up, circuits: Sequence[Path], number: signal.Signals
) -> None:
    run = farm.machine.start("evaluate", "-n", "2", *[str(circuits[0])] * 300, "-o", "jsonl")
    assert run.stdout is not None
    assert json.loads(run.stdout.readline())["pulses"]
    run.send_signal(number)
    _, told = run.communicate(timeout=30)
    assert run.returncode == 130
    assert told.splitlines()[-1] == "icebus: interrupted"
    assert nothing_is_held(farm)


@pytest.mark.parametrize("command", ["evaluate", "map"])
def test_given_a_run_on_held_boards_when_interrupted_then_what_waits_is_given_up_and_it_says_so(
    farm: Up, circuits: Sequence[Path], command: str
) -> None:
    held = farm.machine.run("reserve", "--duration", "10m").stdout.strip()
    many = [str(circuits[0])] * 300
    run = farm.machine.start(command, "--reservation", held, *many, "-o", "jsonl")
    assert run.stdout is not None
    assert json.loads(run.stdout.readline())["pulses"]
    run.send_signal(signal.SIGINT)
    _, told = run.communicate(timeout=30)
    assert "given up" in told
    [reservation] = farm.machine.json("reservations")
    [device] = reservation["devices"]
    assert farm.machine.json("call", device["serial"], "status")["queued"] == 0
    assert farm.machine.run("release", held).returncode == 0


def test_given_a_run_on_held_boards_when_killed_before_it_printed_then_results_has_all_of_it(
    farm: Up, circuits: Sequence[Path]
) -> None:
    held = farm.machine.run("reserve", "--duration", "10m").stdout.strip()
    [device] = farm.machine.json("reservations")[0]["devices"]
    run = farm.machine.start("evaluate", *[str(circuits[0])] * 40, "-o", "table")
    try:
        until(lambda: farm.machine.json("call", device["serial"], "status")["unacknowledged"] > 9)
        run.kill()
        run.communicate()
        rows = farm.machine.json("results", held)
        assert len(rows) == len({row["evaluation"] for row in rows}) > 9
        assert farm.machine.json("results", held) == []
    finally:
        assert farm.machine.run("release", held).returncode == 0


def test_given_a_run_when_it_is_killed_then_its_boards_come_back_after_the_grace_period(
    farm: Up, circuits: Sequence[Path]
) -> None:
    run = farm.machine.start("evaluate", "-n", "2", *[str(circuits[0])] * 300, "-o", "jsonl")
    assert run.stdout is not None
    run.stdout.readline()
    run.kill()
    run.communicate(timeout=30)
    with client_of(farm, "ben") as ben:
        until(lambda: len(ben.available()) == 3, 40)


def test_given_an_observer_when_mosquitto_sub_looks_then_it_sees_the_documented_topics(
    farm: Up,
) -> None:
    program = shutil.which("mosquitto_sub")
    if program is None:
        pytest.skip("mosquitto_sub is not installed (Debian: mosquitto-clients)")
    folder = farm.machine.run("profile", "show", "observer", "-o", "mosquitto").stdout.strip()
    seen = subprocess.run(
        [program, "-t", "icebus/#", "-v", "-W", "1"],
        env={**os.environ, "XDG_CONFIG_HOME": folder},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    ).stdout
    assert "icebus/v1/worker/local/state " in seen
    assert "icebus/v1/control/main/state " in seen
    assert seen.count("icebus/v1/worker/local/device/") >= 3
    assert "/desired/" not in seen
    assert "password" not in seen


def test_given_watch_when_something_is_evaluated_then_it_is_seen_live(
    farm: Up, circuits: Sequence[Path]
) -> None:
    watching = farm.machine.start("watch", "-o", "jsonl")
    try:
        assert watching.stdout is not None
        lines: list[dict[str, Any]] = []
        first = watching.stdout.readline()
        lines.append(json.loads(first))
        farm.machine.json("evaluate", str(circuits[0]))
        for line in watching.stdout:
            lines.append(json.loads(line))
            if lines[-1]["what"] == "reservation_ended":
                break
    finally:
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=30)
    assert watching.returncode == 130
    told = [line["what"] for line in lines]
    assert {"device", "reservation", "results", "finished", "initialized"} <= set(told)
    (result,) = [line for line in lines if line["what"] == "results"]
    assert right(result["data"]["bitstream"], result["data"]["pulses"])


def test_given_a_worker_killed_while_evaluating_when_told_then_each_fails_and_the_boards_return(
    farm: Up, circuits: Sequence[Path]
) -> None:
    with client_of(farm, "ann") as ann:
        boards = ann.reserve(3)
        outcomes: list[Any] = []
        killed = threading.Event()

        def take() -> None:
            for outcome in boards.outcomes([circuits[0]] * 400):
                outcomes.append(outcome)
                if len(outcomes) == 10:
                    killed.set()

        taking = threading.Thread(target=take, daemon=True)
        taking.start()
        assert killed.wait(30)
        os.kill(farm.child("icebus.worker.cli"), signal.SIGKILL)
        taking.join(30)
        assert not taking.is_alive()
        assert len(outcomes) == 3 * 400
        assert len({(o.serial, o.evaluation) for o in outcomes}) == 3 * 400
        failed = [o for o in outcomes if isinstance(o, Failure)]
        assert {type(o.error) for o in failed} == {WorkerLost}
        assert len([o for o in outcomes if isinstance(o, Result)]) + len(failed) == 3 * 400
        boards.release()
        until(lambda: len(ann.available()) == 3)
        with ann.reserve(3) as again:
            assert len(list(again.evaluate(circuits))) == 9


def test_given_the_farm_s_files_when_looked_at_then_only_their_owner_may(farm: Up) -> None:
    assert farm.directory.stat().st_mode & 0o077 == 0
    password = Profile.read(profile_path(farm.directory, "ann")).url.split(":")[2].split("@")[0]
    for path in farm.directory.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1_000_000:
            if password.encode() in path.read_bytes():
                assert path.stat().st_mode & 0o077 == 0, path
            if path.suffix == ".log":
                assert password.encode() not in path.read_bytes(), path
