"""The commands that look at a farm, call its boards, and complete words from it."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from icebus.client._profiles.farm_directory import profile_path
from icebus.schemas.deadline import Deadline

if TYPE_CHECKING:
    from tests.command_line import Icebus
    from tests.farm.conftest import Machine, Up


def complete(farm: Up, typed: str, **environment: str) -> dict[str, str]:
    """What the shell offers for the last word of ``typed``, with what it says of each."""
    done = farm.machine.run(
        _ICEBUS_COMPLETE="complete_fish",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
        _TYPER_COMPLETE_ARGS=typed,
        **environment,
    )
    assert done.stderr == ""
    return dict(line.partition("\t")[::2] for line in done.stdout.splitlines() if line)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


@pytest.fixture
def held(icebus: Icebus) -> Iterator[dict[str, Any]]:
    """A reservation of two boards."""
    done = icebus("reserve", "2", "--duration", "10m", "-o", "json")
    assert done.code == 0, done.stderr
    (document,) = json.loads(done.stdout)
    yield document
    icebus("release", document["id"])


@pytest.fixture
def serial(held: dict[str, Any]) -> str:
    """One of the boards that are held."""
    found: str = held["devices"][0]["serial"]
    return found


# --- the farm -------------------------------------------------------------------------------------


def test_given_a_farm_when_its_workers_are_listed_then_they_answer_and_have_its_boards(
    icebus: Icebus,
) -> None:
    (worker,) = icebus("workers", "-o", "json").json()
    assert (worker["worker"], worker["state"]) == ("local", "ready")
    assert sum(worker["devices"].values()) == 3
    assert worker["heartbeat"] <= 3
    told = icebus("workers").stdout.splitlines()
    assert told[0].split()[:2] == ["WORKER", "STATE"]
    assert "ready" in told[1]


def test_given_a_farm_when_its_logs_are_read_then_each_role_is_shown_what_it_may_see(
    farm: Up, icebus: Icebus, held: dict[str, Any]
) -> None:
    admin = str(profile_path(farm.directory, "admin"))

    def lines_of(component: str) -> list[dict[str, Any]]:
        lines = icebus("--farm", admin, "logs", "-o", "json").json()
        return [line for line in lines if line["component"] == component]

    # They are retained some seconds after they were written, and only the latest of them.
    until(lambda: any(line["serial"] for line in lines_of("main")))
    until(lambda: bool(lines_of("local")))
    shown = icebus("--farm", admin, "logs", "--worker", "local", "--since", "1h")
    assert "worker local" in shown.stdout
    assert "control" not in shown.stdout
    assert icebus("--farm", admin, "logs", "--device", "nowhere", "-o", "jsonl").stdout == ""

    serial = held["devices"][0]["serial"]
    assert icebus("--farm", admin, "admin", "reflash", serial, "--reason", "a look").code == 0
    until(lambda: "a look" in icebus("--farm", admin, "history", "--limit", "9").stdout)
    until(lambda: f"board {serial} is prepared anew" in icebus("logs").stdout)
    assert {line["serial"] for line in icebus("logs", "-o", "json").json()} == {serial}

    observer = str(profile_path(farm.directory, "observer"))
    refused = icebus("--farm", observer, "logs")
    assert refused.code != 0
    assert "observer" in refused.stderr
    assert icebus("logs", "-f", "-o", "json").code == 2


def test_given_a_device_that_is_named_when_told_of_then_all_is_told_that_is_known(
    icebus: Icebus, held: dict[str, Any], serial: str
) -> None:
    (found,) = icebus("devices", serial.lower(), "-o", "json").json()
    assert (found["serial"], found["state"], found["worker"]) == (serial, "serving", "local")
    assert (found["user"], found["reservation"]) == ("ann", held["id"])
    assert found["until"] == held["until"].replace("Z", "+00:00")
    assert found["history"][0]["event"] == "reserved"
    told = icebus("devices", serial).stdout
    assert f"ann (reservation {held['id']}, ends in " in told
    unknown = icebus("devices", serial, "nothing")
    assert unknown.code == 3
    assert "no device 'nothing'" in unknown.stderr


def test_given_who_asks_when_told_who_they_are_then_it_is_what_broker_and_control_know(
    farm: Up, icebus: Icebus, held: dict[str, Any]
) -> None:
    ann = icebus("whoami", "-o", "json").json()
    assert (ann["user"], ann["role"], ann["tls"]) == ("ann", "user", False)
    assert (ann["limits"]["devices_held"], ann["limits"]["devices"]) == (2, None)
    assert ann["farm"] == str(farm.directory)
    assert "2 of all" in icebus("whoami").stdout
    observer = icebus("--farm", "observer", "whoami", "-o", "json").json()
    assert (observer["role"], observer["limits"]) == ("observer", None)


def test_given_devices_that_are_watched_when_one_changes_then_that_is_told(
    farm: Up, icebus: Icebus
) -> None:
    serials = icebus("devices", "-o", "name").stdout.split()
    process = farm.machine.start("devices", "--watch", "-o", "jsonl")
    assert process.stdout is not None
    try:
        first = [json.loads(process.stdout.readline()) for _ in serials]
        assert sorted(each["serial"] for each in first) == sorted(serials)
        reserved = icebus("reserve", "--serial", serials[0])
        assert reserved.code == 0, reserved.stderr
        user = None
        while user != "ann":  # how many changes are told at once is a matter of time
            change = json.loads(process.stdout.readline())
            assert change["serial"] == serials[0]
            user = change["user"]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    icebus("release", "--all")


def test_given_an_observer_when_it_reads_then_it_is_told_the_same_as_a_user(
    farm: Up, icebus: Icebus, held: dict[str, Any]
) -> None:
    observer = str(profile_path(farm.directory, "observer"))

    def same(*command: str) -> object:
        user = icebus(*command, "-o", "json").json()
        seen = icebus("--farm", observer, *command, "-o", "json").json()
        assert seen == user
        return seen

    assert same("devices")
    assert same("reservations", "--all")
    assert same("available")
    assert icebus("--farm", observer, "reservations", "-o", "json").json() == []
    deadline = Deadline.after(20)
    while True:
        # Told with the next heartbeat.
        done = icebus("--farm", observer, "history", "-r", held["id"], "-o", "json")
        if done.json() or deadline.expired:
            break
        time.sleep(0.1)
    assert done.json() == icebus("history", "-r", held["id"], "-o", "json").json()
    assert "last 100 events" in done.stderr
    refused = icebus("--farm", observer, "reserve", "1")
    assert refused.code != 0
    assert "is an observer here, who may only look" in refused.stderr


def test_given_an_observer_when_it_looks_then_it_sees_workers_and_kinds_as_users_do(
    farm: Up,
    icebus: Icebus,
) -> None:
    observer = str(profile_path(farm.directory, "observer"))
    seen = icebus("--farm", observer, "workers", "-o", "json").json()
    assert [sum(row["devices"].values()) for row in seen] == [3]
    seen = icebus("--farm", observer, "kinds", "-o", "json").json()
    assert [row["kind"] for row in seen] == ["pulsecount", "variance"]


def test_given_kinds_when_described_then_people_read_signatures_and_programs_schemas(
    icebus: Icebus,
) -> None:
    told = icebus("kinds", "pulsecount").stdout
    assert "METHOD evaluate(bitstreams: [file], batch: string | null = null" in told
    assert "EVENT results" in told
    (kind,) = icebus("kinds", "pulsecount", "-o", "json").json()
    assert kind["workers"] == ["local"]
    assert kind["methods"]["evaluate"]["args"]["required"] == ["bitstreams"]
    parts = icebus("kinds", "pulsecount", "-o", "csv").csv()
    assert {"measure", "method", "answer", "event"} == {part["part"] for part in parts}
    names = icebus("kinds", "pulsecount", "-o", "name").stdout.split()
    assert names == ["acknowledge", "collect", "evaluate", "status", "withdraw"]


def test_given_a_farm_that_is_well_when_the_doctor_comes_then_nothing_fails(icebus: Icebus) -> None:
    done = icebus("doctor", "-o", "json")
    found = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert done.code == 0, done.stdout
    farm_checks = ("profile", "broker", "control", "workers", "devices", "versions", "clock")
    assert [found[check]["level"] for check in farm_checks] == ["ok"] * len(farm_checks)
    assert "password" not in done.stdout


def test_given_no_farm_when_the_doctor_comes_then_it_says_how_to_start_one(
    machine: Machine,
) -> None:
    done = machine.run("doctor")
    assert done.returncode == 1
    assert "`icebus up` starts one on this machine" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("listing", ["devices", "available", "workers", "kinds", "doctor"])
def test_given_any_listing_when_asked_for_csv_then_it_has_what_json_has(
    icebus: Icebus, listing: str
) -> None:
    until(lambda: len(icebus("available", "-o", "name").stdout.split()) == 3)
    rows = icebus(listing, "-o", "csv").csv()
    known = icebus(listing, "-o", "json").json()
    if listing == "available":
        known = [{"serial": serial} for serial in known["serials"]]
    assert [sorted(row) for row in rows] == [sorted(row) for row in known]
    first = next(iter(known[0]))
    assert [row[first] for row in rows] == [row[first] for row in known]


# --- reservations ---------------------------------------------------------------------------------


def test_given_a_reservation_when_extended_then_its_end_moves_by_that_much(
    icebus: Icebus, held: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_default = icebus("extend", "5m", "-o", "json")
    assert by_default.code == 0, by_default.stderr
    (moved,) = json.loads(by_default.stdout)
    assert moved["reservation"] == held["id"]
    (row,) = icebus("extend", held["id"], "1h", "-o", "csv").csv()
    assert (row["reservation"], row["before"]) == (held["id"], moved["after"])
    assert row["before"][:13] != row["after"][:13]  # another hour
    told = icebus("extend", "1m")
    assert told.stdout.splitlines()[0].split() == ["RESERVATION", "BEFORE", "AFTER", "LEFT"]
    monkeypatch.setenv("ICEBUS_RESERVATION", held["id"])
    far = icebus("extend", "900d")
    assert "as far as the farm lets" in far.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["extend", "5m"], 3, "you hold no reservation"),
        (["extend", "nonsense", "5m"], 3, "nonsense"),
        (["extend", "nonsense"], 2, "no duration"),
        (["extend", "a", "b", "c"], 2, "a reservation"),
        (["kinds", "nonsense"], 3, "there are pulsecount, variance"),
        (["call", "nonsense", "status"], 3, "icebus reserve --serial nonsense"),
        (["circuit", "nonsense"], 6, "no frequency"),
        (["circuit", "25MHz"], 6, "24 MHz"),
    ],
)
def test_given_a_mistake_when_made_then_one_error_names_it(
    icebus: Icebus, arguments: Sequence[str], code: int, told: str
) -> None:
    done = icebus(*arguments)
    assert done.code == code, done.stderr
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


# --- calls ----------------------------------------------------------------------------------------


def test_given_a_board_that_is_held_when_called_then_its_answer_is_printed(
    icebus: Icebus, held: dict[str, Any], serial: str
) -> None:
    assert icebus("call", serial, "status", "-o", "json").json()["capacity"] == 64
    table = icebus("call", serial, "status").stdout.splitlines()
    assert table[0].split() == ["QUEUED", "MEASURING", "UNACKNOWLEDGED", "CAPACITY"]
    assert table[1].split() == ["0", "-", "0", "64"]
    (row,) = icebus("call", serial, "status", "-o", "csv").csv()
    assert row["measuring"] == ""
    named = icebus("call", "-r", held["id"], serial, "status", "-o", "name")
    assert "queued=0" in named.stdout.splitlines()


def test_given_files_when_evaluated_by_a_call_then_its_events_are_followed_to_the_end(
    icebus: Icebus, serial: str, circuits: Sequence[Path]
) -> None:
    words = ["evaluate", f"@{circuits[0]}", f"bitstreams=@{circuits[1]}", "validate=true"]
    done = icebus("call", serial, *words, "--follow", "-o", "jsonl")
    assert done.code == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == ["results", "results", "finished"]
    assert [event["data"]["bitstream"] for event in events[:2]] == [p.name for p in circuits[:2]]
    assert [event["data"]["exact"] for event in events[:2]] == [True, True]
    evaluations = [event["data"]["evaluation"] for event in events[:2]]
    assert all(evaluation in done.stderr for evaluation in evaluations)
    words = [f"evaluations={evaluation}" for evaluation in evaluations]
    assert icebus("call", serial, "acknowledge", *words, "-o", "json").json() == {"forgotten": 2}


def test_given_events_when_followed_as_a_table_or_csv_then_each_is_a_line(
    icebus: Icebus, serial: str, circuits: Sequence[Path]
) -> None:
    words = ["call", serial, "evaluate", f"@{circuits[0]}", "--follow"]
    lines = icebus(*words).stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["results", "finished"]
    rows = icebus(*words, "-o", "csv").csv()
    assert json.loads(rows[0]["data"])["bitstream"] == circuits[0].name
    listed = json.loads(icebus(*words, "-o", "json").stdout)
    assert [event["event"] for event in listed] == ["results", "finished"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["evaluat"], 3, "icebus kinds pulsecount"),
        (["evaluate"], 6, "bitstreams is missing"),
        (["evaluate", "@nowhere.bin"], 6, "nowhere.bin"),
        (["evaluate", "bitstream=1"], 6, "no argument 'bitstream'"),
        (["status", "more=true"], 6, "call it as status()"),
        (["acknowledge", "evaluations=not an id"], 6, "call it as acknowledge("),
    ],
)
def test_given_a_call_that_is_wrong_when_made_then_the_error_shows_how_it_is_right(
    icebus: Icebus, serial: str, words: Sequence[str], code: int, told: str
) -> None:
    done = icebus("call", serial, *words)
    assert done.code == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_given_a_reservation_that_has_another_board_when_called_then_the_error_says_which(
    icebus: Icebus, held: dict[str, Any], serial: str
) -> None:
    theirs = {row["serial"] for row in icebus("devices", "-o", "csv").csv()}
    (other,) = theirs - {device["serial"] for device in held["devices"]}
    done = icebus("call", other, "status", "--reservation", held["id"])
    assert done.code == 3
    assert serial in done.stderr


def test_given_a_file_that_is_no_bitstream_when_called_then_the_worker_s_error_is_the_user_s(
    icebus: Icebus, serial: str, tmp_path: Path
) -> None:
    path = tmp_path / "short.bin"
    path.write_bytes(b"short")
    done = icebus("call", serial, "evaluate", f"@{path}")
    assert done.code == 6
    assert "104,090" in done.stderr


def test_given_a_method_without_a_batch_when_followed_then_ctrl_c_ends_it(
    farm: Up, serial: str
) -> None:
    following = farm.machine.start("call", serial, "status", "--follow")
    assert following.stderr is not None
    assert "capacity" in following.stderr.readline()  # it has been answered and follows
    following.send_signal(signal.SIGINT)
    _, told = following.communicate(timeout=30)
    assert following.returncode == 130
    assert "Traceback" not in told


def test_given_a_reservation_that_is_released_when_followed_then_following_ends_with_that(
    farm: Up, icebus: Icebus, held: dict[str, Any], serial: str
) -> None:
    following = farm.machine.start("call", serial, "status", "--follow")
    assert following.stderr is not None
    assert "capacity" in following.stderr.readline()
    icebus("release", held["id"])
    _, told = following.communicate(timeout=30)
    assert following.returncode == 3
    assert "has ended" in told


# --- completion -----------------------------------------------------------------------------------


def test_given_a_shell_when_it_completes_commands_then_only_those_that_fit_come(farm: Up) -> None:
    assert list(complete(farm, "icebus rel")) == ["release"]
    assert {"workers", "watch", "whoami"} == set(complete(farm, "icebus w"))


def test_given_a_shell_when_it_completes_serials_then_they_come_with_their_state(
    farm: Up, held: dict[str, Any], serial: str
) -> None:
    serials = complete(farm, "icebus reserve --serial ")
    assert len(serials) == 3
    assert serials[serial] == "serving, held by ann"
    assert sum("held by ann" in about for about in serials.values()) == 2
    assert list(complete(farm, f"icebus reserve --serial {serial[:-1]}")) == [serial]
    yours = complete(farm, "icebus call ")
    assert set(yours) == {device["serial"] for device in held["devices"]}


def test_given_a_shell_when_it_completes_reservations_then_they_are_the_user_s(
    farm: Up, held: dict[str, Any], serial: str
) -> None:
    for command in ("release ", "extend ", "call -r "):
        offered = complete(farm, f"icebus {command}")
        assert list(offered) == [held["id"]]
        assert "pulsecount" in offered[held["id"]]
    assert complete(farm, "icebus --farm ben release ") == {}


def test_given_a_shell_when_it_completes_what_administration_and_queues_take_then_it_is_offered(
    farm: Up, held: dict[str, Any], serial: str
) -> None:
    mine = {device["serial"] for device in held["devices"]}
    assert set(complete(farm, f"icebus release {held['id']} ")) == mine
    assert complete(farm, "icebus --farm ben transfer x ") == {"ann": "holds 1 reservation"}
    assert complete(farm, "icebus admin drain ")["local"].startswith("ready, 3 devices")
    assert list(complete(farm, "icebus --farm admin admin end ")) == [held["id"]]
    assert serial in complete(farm, "icebus admin quarantine ")
    assert complete(farm, "icebus devices -l ")["chip=rp2040"] == "3 devices"
    assert "virtual=true,chip=rp2040" in complete(farm, "icebus reserve 1 -l virtual=true,ch")


def test_given_a_shell_when_it_completes_kinds_and_methods_then_they_come_described(
    farm: Up, serial: str
) -> None:
    assert complete(farm, "icebus kinds ")["pulsecount"].startswith("Counts the pulses")
    assert list(complete(farm, "icebus reserve --kind p")) == ["pulsecount"]
    methods = complete(farm, f"icebus call {serial} ")
    assert set(methods) == {"acknowledge", "collect", "evaluate", "status", "withdraw"}
    assert methods["evaluate"].startswith("Queue bitstreams")


def test_given_bash_when_it_completes_then_it_gets_words_only(farm: Up) -> None:
    done = farm.machine.run(
        _ICEBUS_COMPLETE="complete_bash", COMP_WORDS="icebus kinds p", COMP_CWORD="2"
    )
    assert (done.stdout.strip(), done.stderr) == ("pulsecount", "")


@pytest.mark.parametrize(
    "environment",
    [
        {"ICEBUS_FARM": "nobody"},
        {"ICEBUS_URL": "nonsense"},
        {"ICEBUS_URL": "mqtt://ann:wrong@192.0.2.1:1883"},
    ],
)
def test_given_no_farm_when_a_shell_completes_then_nothing_comes_and_nothing_is_told(
    farm: Up, environment: dict[str, str]
) -> None:
    assert complete(farm, "icebus release ", **environment) == {}


def test_given_a_farm_that_refuses_us_when_a_shell_completes_then_nothing_is_told(
    farm: Up,
) -> None:
    wrong = farm.url.replace(farm.url.split(":")[2].split("@")[0], "wrong")
    assert complete(farm, "icebus release ", ICEBUS_URL=wrong) == {}


def test_given_the_programs_when_help_is_asked_for_then_nothing_heavy_is_loaded(
    farm: Up,
) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "icebus.client.cli", "--help"],
        env=farm.machine.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    for heavy in ("paho.mqtt.client", "icebus.schemas.errors", "icebus.broker", "numpy"):
        assert heavy not in loaded
    for panel in ("Farm", "Boards", "Evaluate"):
        assert f"─ {panel} ─" in done.stdout


# --- live, and in time ----------------------------------------------------------------------------


def test_given_no_terminal_then_top_shows_the_farm_once(icebus: Icebus) -> None:
    told = icebus("top", "-o", "json").json()

    assert sum(told["boards"].values()) == 3
    assert told["leader"] is not None
    assert told["away"] is None
    assert [each["worker"] for each in told["workers"]] == ["local"]
    assert told["results_per_second"] is not None


def test_given_a_terminal_then_top_goes_on_until_q_and_leaves_it_as_it_was(farm: Up) -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(
        [sys.executable, "-m", "icebus.client.cli", "top"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**farm.machine.environment, "TERM": "xterm"},
        close_fds=True,
    )
    shown = b""
    try:
        while b"Workers" not in shown:
            ready, _, _ = select.select([master], [], [], 60)
            assert ready, shown
            shown += os.read(master, 65536)
        os.write(master, b"\x1b[Aq")  # behind an arrow, which means nothing
        while process.poll() is None:
            if select.select([master], [], [], 0.1)[0]:
                shown += os.read(master, 65536)
        assert process.returncode == 0, shown
        assert termios.tcgetattr(slave) == before
        while select.select([master], [], [], 0)[0]:
            shown += os.read(master, 65536)
        assert b"\x1b[?1049l" in shown, "it gives back the screen that was there before"
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


def test_given_a_run_then_its_timeline_is_drawn_at_once_and_from_what_was_printed(
    icebus: Icebus, circuits: Sequence[Path], tmp_path: Path
) -> None:
    drawn, later = tmp_path / "at-once.svg", tmp_path / "later.svg"
    done = icebus("evaluate", "-n", "2", "--timeline", drawn, "-o", "jsonl", *circuits)
    assert done.code == 0, done.stderr
    results = tmp_path / "results.jsonl"
    results.write_text(done.stdout)

    told = icebus("timeline", results, later, "-o", "json").json()

    assert drawn.exists()
    assert later.exists()
    assert len(told["boards"]) == 2
    assert all(0 < each["measuring"] <= 1 for each in told["boards"])
    for each in told["evaluations"]:
        # Text firmware does not tell when the FPGA was configured.
        order = ["queued", "sent", "uploaded", "begun", "measured", "delivered"]
        moments = [each[name] for name in order]
        assert None not in moments
        assert moments == sorted(moments)
