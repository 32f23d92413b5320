"""Reservations to their last detail, as users and administrators of a farm meet them."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.farm.conftest import wait_until

from icebus.client import Admin, DevicesAvailable, Failure, PulseCountClient
from icebus.client._profiles.farm_directory import profile_path
from icebus.schemas.errors import DeviceFailed, DeviceNotHeld, DeviceNotServing

if TYPE_CHECKING:
    from tests.command_line import Icebus
    from tests.farm.conftest import Up

BOARDS = 3


@pytest.fixture
def admin(icebus: Icebus) -> Any:
    """The command line as the farm's administrator uses it."""

    def run(*arguments: str) -> Any:
        return icebus("--farm", "admin", "admin", *arguments)

    return run


@pytest.fixture(autouse=True)
def _free(icebus: Icebus) -> Iterator[None]:
    """All boards are free before and after."""
    wait_until(lambda: len(available(icebus)) == BOARDS)
    yield
    for user in ("ann", "ben"):
        icebus("--farm", user, "release", "--all")


def available(icebus: Icebus, *arguments: str) -> list[str]:
    return icebus("available", "-o", "name", *arguments).stdout.split()


def reserve(icebus: Icebus, *arguments: str) -> dict[str, Any]:
    (document,) = icebus("reserve", "--duration", "10m", "-o", "json", *arguments).json()
    assert isinstance(document, dict)
    return document


def serials(document: dict[str, Any]) -> list[str]:
    return [device["serial"] for device in document["devices"]]


def device(icebus: Icebus, serial: str) -> dict[str, Any]:
    (row,) = icebus("devices", "-l", f"serial={serial}", "-o", "json").json()
    assert isinstance(row, dict)
    return row


def told(process: subprocess.Popen[str], what: str) -> str:
    """The line in which a command tells that, on stderr."""
    assert process.stderr is not None
    for line in process.stderr:
        if what in line:
            return line
    raise AssertionError(f"{what!r} was never told")


# --- the queue ------------------------------------------------------------------------------------


def test_given_boards_that_another_holds_when_waiting_then_the_place_is_told_until_they_are_let_go(
    farm: Up, icebus: Icebus
) -> None:
    held = reserve(icebus, "3")
    words = ["--farm", "ben", "reserve", "2", "--wait", "60s", "--priority", "5"]
    waiting = farm.machine.start(*words, "-l", "virtual=true")
    line = told(waiting, "position")
    assert line.startswith("waiting at position 1: ")
    (queued,) = [
        row for row in icebus("reservations", "--all", "-o", "json").json() if row["queue"]
    ]
    assert (queued["user"], queued["state"], queued["priority"]) == ("ben", "queued", 5)
    assert (queued["devices"], queued["queue"]["position"]) == ([], 1)
    table = icebus("reservations", "--all").stdout.splitlines()
    assert table[0].endswith("WAITS FOR")
    assert queued["queue"]["reason"] in "\n".join(table)
    first, *rest = serials(held)
    done = icebus("release", held["id"], *rest)
    assert done.stdout == f"{' '.join(rest)} of {held['id']} released\n"
    out, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, out.strip()) == (0, queued["id"])
    rows = {row["id"]: row for row in icebus("reservations", "--all", "-o", "json").json()}
    assert sorted(serials(rows[queued["id"]])) == sorted(rest)
    assert first in icebus("reservations").stdout
    assert not set(rest) & set(icebus("reservations").stdout.split())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_given_a_place_in_the_queue_when_interrupted_then_it_is_given_up(
    farm: Up, icebus: Icebus, number: signal.Signals
) -> None:
    held = reserve(icebus, "3")
    waiting = farm.machine.start("--farm", "ben", "reserve", "1", "--wait", "60s")
    told(waiting, "position")
    waiting.send_signal(number)
    waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert [row["id"] for row in icebus("reservations", "--all", "-o", "json").json()] == [
        held["id"]
    ]


def test_given_too_few_boards_when_the_wait_is_over_then_the_exit_code_says_so(
    icebus: Icebus,
) -> None:
    reserve(icebus, "2")
    done = icebus(
        "--farm", "ben", "evaluate", "-n", "3", "--wait", "1s", __file__.replace(".py", "")
    )
    assert done.code == 6, "files are looked at first"
    done = icebus("--farm", "ben", "reserve", "3", "--wait", "1s")
    assert done.code == 4
    assert "waited 1 s for 3 devices in vain" in done.stderr
    done = icebus("--farm", "ben", "reserve", "3")
    assert done.code == 4
    assert "--wait" in done.stderr


@pytest.mark.parametrize(
    ("selector", "count"),
    [("virtual=true", 3), ("chip=rp2040,worker!=nowhere", 3), ("!virtual", 0), ("rack", 0)],
)
def test_given_labels_when_selecting_then_only_such_boards_are_meant(
    icebus: Icebus, selector: str, count: int
) -> None:
    assert len(available(icebus, "-l", selector)) == count
    assert len(icebus("devices", "-l", selector, "-o", "json").json()) == count
    if not count:
        done = icebus("reserve", "1", "-l", selector)
        assert done.code == 4
        assert selector in done.stderr


def test_given_a_selector_that_is_none_when_given_then_the_error_points_at_the_place(
    icebus: Icebus,
) -> None:
    for command in (["devices"], ["available"], ["reserve", "1"]):
        done = icebus(*command, "-l", "chip=rp2040,rack=?")
        assert done.code == 6
        assert "⟨here⟩?" in done.stderr


# --- to others ------------------------------------------------------------------------------------


def test_given_a_reservation_when_another_user_accepts_it_then_it_is_theirs_alone(
    icebus: Icebus, circuits: Sequence[Path]
) -> None:
    held = reserve(icebus, "1")
    offered = icebus("transfer", held["id"], "ben")
    assert offered.stdout == f"{held['id']} offered to ben\n"
    assert f"icebus accept {held['id']}" in offered.stderr
    assert icebus("--farm", "ben", "release", held["id"]).code == 3
    listed = icebus("--farm", "ben", "reservations")
    assert held["id"] in listed.stdout
    assert "1 reservation offered to you" in listed.stderr
    (row,) = icebus("--farm", "ben", "reservations", "--offered", "-o", "json").json()
    assert row["offer"]["to"] == "ben"
    assert icebus("--farm", "ben", "reservations", "-o", "json").json() == []
    assert icebus("transfer", held["id"], "--withdraw").code == 0
    assert icebus("--farm", "ben", "accept", held["id"]).code != 0
    icebus("transfer", held["id"], "ben")
    assert icebus("--farm", "ben", "decline", held["id"]).stdout == f"{held['id']} declined\n"
    icebus("transfer", held["id"], "ben", "--wait", "5m")
    accepted = icebus("--farm", "ben", "accept", held["id"])
    assert accepted.stdout == f"{held['id']} accepted\n"
    assert icebus("release", held["id"]).code == 3
    (row,) = icebus(
        "--farm", "ben", "evaluate", "-r", held["id"], str(circuits[0]), "-o", "json"
    ).json()
    assert row["serial"] == serials(held)[0]
    events = icebus("history", "-r", held["id"], "-o", "json").json()
    told = [each["event"] for each in events]
    assert told[:3] == ["transferred", "offered", "offer_ended"]
    assert (events[0]["actor"], events[0]["user"]) == ("ben", "ben")
    assert (events[0]["reason"], events[1]["reason"]) == ("from ann", "to ben")


# --- after a crash --------------------------------------------------------------------------------


def test_given_a_run_that_was_killed_when_its_results_are_collected_then_none_is_lost(
    farm: Up, icebus: Icebus, circuits: Sequence[Path]
) -> None:
    held = reserve(icebus, "2")
    run = farm.machine.start("evaluate", "-r", held["id"], *[str(circuits[0])] * 40, "-o", "jsonl")
    assert run.stdout is not None
    run.stdout.readline()
    run.kill()
    run.communicate(timeout=30)
    done = icebus("results", held["id"], "-o", "jsonl")
    assert done.code == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows
    assert all(95 <= row["pulses"] <= 100 for row in rows)
    keys = [(row["serial"], row["evaluation"]) for row in rows]
    assert len(set(keys)) == len(keys)
    again = icebus("results", held["id"])
    assert (again.code, again.stdout) == (0, "")
    assert "nothing to collect" in again.stderr


# --- boards that fail -----------------------------------------------------------------------------


@contextmanager
def quarantined(farm: Up, serial: str) -> Iterator[None]:
    """A board that fails its holder, for as long as the block lasts."""
    with Admin(farm=profile_path(farm.directory, "admin")) as admin:
        assert admin.quarantine([serial], "for a test") == [serial]
        try:
            yield
        finally:
            assert admin.unquarantine([serial]) == [serial]


def test_given_a_board_that_fails_when_mapping_then_another_that_is_ready_takes_its_place(
    farm: Up, icebus: Icebus, circuits: Sequence[Path]
) -> None:
    replaced = threading.Event()
    with PulseCountClient(farm=profile_path(farm.directory, "ann")) as ann:
        ann.on("device_replaced")(lambda _event: replaced.set())
        with ann.reserve(1, replace=True) as boards:
            (first,) = boards.serials
            results = boards.map([circuits[0]] * 60)
            taken = [next(results)]
            with quarantined(farm, first):
                taken += results
                assert boards.serials != [first]
        assert replaced.wait(10)
    assert len(taken) == 60
    assert {result.serial for result in taken} > {first}
    events = icebus("history", "-s", first, "--limit", "6", "-o", "json").json()
    assert {"quarantined", "unquarantined"} <= {each["event"] for each in events}


# --- rebooting what one holds -----------------------------------------------------------------


def test_given_boards_at_work_when_their_holder_reboots_one_then_all_goes_on_with_it(
    farm: Up, icebus: Icebus, circuits: Sequence[Path]
) -> None:
    profile = profile_path(farm.directory, "ann")
    with PulseCountClient(farm=profile) as client, client.reserve(2) as boards:
        first, other = boards.serials
        outcomes = boards.evaluate_outcomes([circuits[0]] * 40)
        taken = [next(outcomes) for _ in range(4)]
        boards.reboot(first)
        assert boards.serves(first), "it is back when the call returns"
        taken += outcomes
        failures = [each for each in taken if isinstance(each, Failure)]
        assert len(taken) == 80
        assert {each.serial for each in failures} == {first}
        owed = [each.error for each in failures if isinstance(each.error, DeviceFailed)]
        assert owed
        assert all("ann asked for a reboot" in error.message for error in owed)
        others = [each.error for each in failures if not isinstance(each.error, DeviceFailed)]
        assert all(isinstance(error, DeviceNotServing) for error in others), "sent meanwhile"
        population = boards.map([circuits[0]] * 40)
        results = [next(population)]
        boards.reboot(other)
        results += population
        assert len(results) == 40, "what a board owed is measured again"
        with pytest.raises(DeviceNotHeld):
            boards.reboot("nobodys")
    entries = icebus("history", "-s", first, "-e", "rebooted", "-o", "json").json()
    assert entries[0]["actor"] == "ann"


def test_given_boards_that_are_held_when_rebooted_by_name_or_all_then_they_serve_again(
    icebus: Icebus,
) -> None:
    held = reserve(icebus, "2")
    first, other = serials(held)
    since = device(icebus, first)["since"]
    assert icebus("reboot", first).stdout == f"{first} rebooted\n"
    assert device(icebus, first)["state"] == "serving"
    assert device(icebus, first)["since"] != since
    assert icebus("reboot").stdout.split("\n")[:2] == [f"{first} rebooted", f"{other} rebooted"]
    assert icebus("reboot", other, "--no-wait").stdout == f"{other} will be rebooted\n"
    theirs = icebus("--farm", "ben", "reboot", first)
    assert theirs.code != 0
    assert f"you do not hold device '{first}'" in theirs.stderr
    by_id = icebus("--farm", "ben", "reboot", first, "-r", held["id"])
    assert (by_id.code, held["id"] in by_id.stderr) == (3, True)


# --- administration -------------------------------------------------------------------------------


def test_given_a_user_when_administering_then_the_refusal_says_who_may(icebus: Icebus) -> None:
    serial = available(icebus)[0]
    for words in (["reboot", serial], ["drain", "local"], ["forget", serial, "--yes"]):
        done = icebus("admin", *words)
        assert done.code == 5
        assert "ann is no administrator" in done.stderr
        assert "icebus --farm admin admin" in done.stderr


def test_given_a_board_in_quarantine_when_looked_at_then_the_reason_shows_and_nobody_gets_it(
    icebus: Icebus, admin: Any
) -> None:
    serial = available(icebus)[0]
    assert admin("quarantine", serial, "--reason", "loose socket").stdout == (
        f"{serial} quarantined\n"
    )
    wait_until(lambda: device(icebus, serial)["state"] == "quarantined")
    assert "loose socket" in device(icebus, serial)["reason"]
    assert icebus("reserve", "--serial", serial).code == 4
    assert "nothing to change" in admin("quarantine", serial, "--reason", "loose socket").stderr
    assert admin("unquarantine", serial).code == 0
    wait_until(lambda: device(icebus, serial)["state"] == "ready")
    (entry,) = icebus(
        "history", "-s", serial, "-e", "quarantined", "--limit", "1", "-o", "json"
    ).json()
    assert (entry["actor"], entry["reason"]) == ("admin", "loose socket")


@pytest.mark.parametrize("command", ["reboot", "reflash"])
def test_given_a_board_when_rebooted_or_reflashed_then_it_is_ready_again(
    icebus: Icebus, admin: Any, command: str
) -> None:
    serial = available(icebus)[0]
    before = device(icebus, serial)["since"]
    assert admin(command, serial, "--reason", "to see").stdout == f"{serial} will be {command}ed\n"
    wait_until(lambda: device(icebus, serial)["since"] != before)
    wait_until(lambda: device(icebus, serial)["state"] == "ready")


def test_given_a_reservation_when_an_administrator_ends_it_then_its_user_reads_why(
    icebus: Icebus, admin: Any
) -> None:
    held = reserve(icebus, "1")
    done = admin("end", held["id"], "--reason", "maintenance")
    assert done.stdout == f"{held['id']} of ann ended\n"
    (entry,) = icebus("history", "-r", held["id"], "-e", "ended", "-o", "json").json()
    assert (entry["actor"], entry["user"]) == ("admin", "ann")
    assert "maintenance" in entry["reason"]


def test_given_a_worker_when_drained_then_its_reservations_go_on_and_it_gets_no_new_ones(
    icebus: Icebus, admin: Any
) -> None:
    held = reserve(icebus, "1")
    done = admin("drain", "local", "--reason", "new kernel")
    try:
        assert done.stdout.split() == [
            "local",
            "drains;",
            "1",
            "reservation",
            "to",
            "finish",
            held["id"],
        ]
        wait_until(lambda: "draining" in icebus("workers").stdout)
        assert available(icebus) == []
        assert icebus("call", serials(held)[0], "status").code == 0
    finally:
        assert admin("undrain", "local").code == 0
    wait_until(lambda: len(available(icebus)) == BOARDS - 1)


def test_given_a_board_that_is_there_when_it_is_to_be_forgotten_then_that_is_refused(
    icebus: Icebus, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serial = available(icebus)[0]
    assert admin("forget", serial).code == 2, "nobody is there to be asked"
    done = admin("forget", serial, "--yes")
    assert done.code == 1
    assert serial in done.stderr
    assert device(icebus, serial)["state"] == "ready"


# --- history --------------------------------------------------------------------------------------


def test_given_what_happened_when_asked_for_then_tables_and_programs_get_the_same(
    icebus: Icebus,
) -> None:
    held = reserve(icebus, "2")
    icebus("extend", held["id"], "5m")
    icebus("release", held["id"])
    of = ("history", "--reservation", held["id"])
    known = icebus(*of, "-o", "json").json()
    events = [entry["event"] for entry in known]
    assert events[-2:] == ["reserved", "reserved"]
    assert {"extended", "released", "ended"} <= set(events)
    rows = icebus(*of, "-o", "csv").csv()
    assert [sorted(row) for row in rows] == [sorted(entry) for entry in known]
    assert [row["number"] for row in rows] == [str(entry["number"]) for entry in known]
    table = icebus(*of).stdout.splitlines()
    assert table[0].split()[:3] == ["AT", "EVENT", "ACTOR"]
    assert len(table) == 1 + len(known)
    assert icebus(*of, "--since", "1d", "--user", "ann", "--worker", "local", "-o", "json").json()
    assert icebus(*of, "--user", "ben", "-o", "json").json() == []
    limited = icebus(*of, "--limit", "1", "-o", "json")
    assert limited.json() == known[:1]
    assert "--limit" in limited.stderr
    done = icebus("history", "-e", "nonsense")
    assert done.code == 6
    assert "quarantined" in done.stderr


# --- serials as people type them ------------------------------------------------------------------


def test_given_serials_in_lower_case_when_typed_anywhere_then_the_boards_are_meant(
    farm: Up, icebus: Icebus, admin: Any, circuits: Sequence[Path]
) -> None:
    first, second = available(icebus)[:2]
    held = reserve(icebus, "--serial", first.lower(), "--serial", second.lower())
    assert sorted(serials(held)) == sorted([first, second])
    named = ("-r", held["id"], "-s")

    rows = icebus("evaluate", *named, first.lower(), circuits[0], "-o", "json").json()
    assert [row["serial"] for row in rows] == [first]
    rows = icebus("map", *named, second.lower(), circuits[0], "-o", "json").json()
    assert [row["serial"] for row in rows] == [second]
    assert icebus("call", first.lower(), "status").code == 0
    assert icebus("call", first.lower(), "evaluate", f"@{circuits[0]}", "--follow").code == 0
    assert first in icebus("reboot", first.lower()).stdout
    assert device(icebus, second.lower())["serial"] == second
    assert "released" in icebus("release", held["id"], second.lower()).stdout
    told = icebus("history", "-s", second.lower(), "-o", "json").json()
    assert {row["serial"] for row in told} == {second}
    assert f"{second} quarantined" in admin("quarantine", second.lower(), "--reason", "x").stdout
    again = admin("quarantine", second.lower(), "--reason", "x")
    assert "nothing to change" in again.stderr
    assert f"{second} " in admin("unquarantine", second.lower()).stdout


def test_given_serials_in_lower_case_when_given_to_the_library_then_the_boards_are_meant(
    farm: Up, icebus: Icebus, circuits: Sequence[Path]
) -> None:
    serial = available(icebus)[0]
    with PulseCountClient(farm.url) as client:
        boards = client.reserve(serials=[serial.lower()])
        assert boards.serials == [serial]
        assert boards.device(serial.lower()).serial == serial
        assert boards.problem(serial.lower()) is None
        found = [result.serial for result in boards.evaluate(circuits, serials=[serial.lower()])]
        assert set(found) == {serial}
        boards.reboot(serial.lower())
        boards.release([serial.lower()])


def test_given_a_reservation_when_it_grows_then_its_new_boards_measure_too(
    farm: Up, circuits: Sequence[Path]
) -> None:
    profile = profile_path(farm.directory, "ann")
    with PulseCountClient(farm=profile) as client, client.reserve(1) as boards:
        (first,) = boards.serials
        new = boards.grow(2)
        measured = {result.serial for result in boards.evaluate([circuits[0]])}
        assert measured == {first, *new} == set(boards.serials)
        boards.release(new)
        assert boards.grow(serials=new[:1]) == new[:1]


def test_given_devices_that_somebody_releases_when_a_client_listens_then_it_is_told_of_them(
    farm: Up,
) -> None:
    told: list[DevicesAvailable] = []
    with (
        PulseCountClient(farm=profile_path(farm.directory, "ann")) as ann,
        PulseCountClient(farm=profile_path(farm.directory, "ben")) as ben,
    ):
        with ann.reserve(BOARDS - 1) as taken:
            ben.on("devices_available")(told.append)
            wait_until(lambda: bool(told))
            assert len(told[0].serials) == 1
            assert not set(taken.serials) & set(told[0].available)
        wait_until(lambda: len(told[-1].available) == BOARDS)
    assert sorted(serial for each in told[1:] for serial in each.serials) == sorted(taken.serials)
