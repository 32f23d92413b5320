"""What `icebus doctor` makes of facts."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from icebus.bus import BrokerAddress
from icebus.client._farm.survey import Survey
from icebus.client._profiles.farm_directory import lock_path
from icebus.client._profiles.profile import Profile
from icebus.client.doctor import farm, machine
from icebus.client.doctor.finding import Finding, Level
from icebus.client.doctor.machine import Directory, Leftovers
from icebus.schemas.components import (
    ControlState,
    Heartbeat,
    KindInfo,
    Presence,
    WorkerHeartbeat,
    WorkerKinds,
    WorkerPhase,
    WorkerState,
)
from icebus.schemas.database import DatabaseCause, DatabaseTrouble
from icebus.schemas.devices import DeviceClaim, DeviceReport, DeviceState
from icebus.schemas.errors import BrokerUnavailable, InvalidRequest, NoProfile, NotAuthorized
from icebus.schemas.message import now
from icebus.schemas.operations.reservations import Reservation, ReservationState

NOW = now()
ADDRESS = BrokerAddress.parse("mqtt://ann:secret@lab.example:1883")
HERE = BrokerAddress.parse("mqtt://ann:secret@127.0.0.1:1883")


def level(finding: Finding) -> str:
    """The level, once it is sure that what is wrong comes with a remedy."""
    assert finding.found
    assert bool(finding.remedy) == (finding.level is not Level.OK), finding
    assert "secret" not in finding.found + finding.remedy
    return finding.level.value


# --- the machine ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("python", "paho", "expected"),
    [
        ((3, 11, 2), "2.1.0", "ok"),
        ((4, 0, 0), "3.0", "ok"),
        ((3, 10, 9), "2.1.0", "fail"),
        ((3, 12, 0), "1.6.1", "fail"),
        ((3, 12, 0), None, "fail"),
    ],
)
def test_given_versions_of_python_when_checked_then_old_ones_fail(
    python: tuple[int, ...], paho: str | None, expected: str
) -> None:
    assert level(machine.check_python(python, paho)) == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("mosquitto version 2.0.11", "ok"),
        ("mosquitto version 2.1", "ok"),
        ("mosquitto version 1.6.12", "warn"),
        ("something else", "warn"),
        ("", "warn"),
        (None, "warn"),
    ],
)
def test_given_a_broker_s_program_when_checked_then_it_has_to_speak_mqtt_5(
    told: str | None, expected: str
) -> None:
    assert level(machine.check_mosquitto(told)) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "ok"),
        ({"writable": False}, "fail"),
        ({"private": False}, "warn"),
        ({"free": 50 << 20}, "warn"),
        ({"free": 0}, "fail"),
    ],
)
def test_given_a_state_directory_when_checked_then_space_and_permissions_count(
    change: dict[str, Any], expected: str
) -> None:
    facts: dict[str, Any] = {"writable": True, "private": True, "free": 1 << 40} | change
    assert level(machine.check_state(Directory(Path("/state"), **facts))) == expected


def test_given_what_a_killed_farm_left_when_checked_then_the_remedy_names_it() -> None:
    place, profile = Path("/state/farm"), Path("/state/profile.json")
    assert level(machine.check_leftovers(Leftovers())) == "ok"
    assert level(machine.check_leftovers(Leftovers(profile))) == "ok"
    assert level(machine.check_leftovers(Leftovers(profile, place, up=True, broker=7))) == "ok"
    killed = machine.check_leftovers(Leftovers(profile, place))
    assert level(killed) == "warn"
    assert str(profile) in killed.remedy
    orphan = machine.check_leftovers(Leftovers(profile, place, broker=4711))
    assert level(orphan) == "warn"
    assert orphan.remedy == "kill 4711"


def test_given_tools_and_databases_when_checked_then_only_missing_ones_are_told() -> None:
    assert level(machine.check_tools(None)) == "ok"
    assert "yosys" in machine.check_tools("yosys").found
    assert level(machine.check_tools("yosys")) == "warn"
    assert level(machine.check_chipdb(Path("/chipdb-5k.bin"))) == "ok"
    assert level(machine.check_chipdb(None)) == "warn"


def test_given_a_directory_that_is_not_there_yet_when_looked_at_then_its_parent_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    found = machine.look_at(tmp_path / "not" / "yet")
    assert (found.writable, found.private) == (True, True)
    assert found.free > 0


def test_given_a_profile_that_others_can_read_when_looked_at_then_that_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    profile = tmp_path / "icebus" / "profile.json"
    Profile(url=HERE.url(), user="ann").write(profile)
    assert machine.look_at(profile.parent).private
    profile.chmod(0o644)
    assert not machine.look_at(profile.parent).private


def test_given_a_farm_that_was_killed_when_looked_for_then_it_is_found(tmp_path: Path) -> None:
    profile, place = tmp_path / "profile.json", tmp_path / "farm"
    assert machine.leftovers(profile) == Leftovers()
    Profile(url=HERE.url(), user="ann").write(profile)
    assert machine.leftovers(profile) == Leftovers(profile)
    place.mkdir()
    lock_path(place).touch()
    Profile(url=HERE.url(), user="ann", farm=place).write(profile)
    assert machine.leftovers(profile) == Leftovers(profile, place, up=False, broker=None)
    profile.write_text("{")
    assert machine.leftovers(profile) == Leftovers()


def test_given_processes_when_looked_for_then_their_names_are_found(tmp_path: Path) -> None:
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "comm").write_text("brltty\n")
    (tmp_path / "13").mkdir()
    (tmp_path / "13" / "comm").symlink_to(tmp_path / "ended")
    assert machine.programs(tmp_path) == ["brltty"]
    assert machine.programs(tmp_path / "nowhere") == []


def test_given_this_machine_when_checked_then_every_check_comes_to_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("ICEBUS_CHIPDB", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", os.environ["PATH"])
    found = {finding.check: finding for finding in machine.findings()}
    assert {"boards", "mosquitto", "state", "lock", "fpga tools"} < found.keys()
    assert level(found["python"]) == "ok"
    assert level(found["chip database"]) == "warn"


# --- the farm -------------------------------------------------------------------------------------


def report(serial: str, state: DeviceState, **more: Any) -> DeviceReport:
    return DeviceReport(serial=serial, state=state, session="s", **({"since": NOW} | more))


def well(**change: Any) -> Survey:
    """A farm on which all is well, but for what a test changes."""
    beat = Heartbeat(epoch="e", sequence=10, interval=1.0)
    facts: dict[str, Any] = {
        "controls": {"main": ControlState(state=Presence.ONLINE, session="c", version="1")},
        "heartbeat": beat,
        "workers": {
            name: WorkerState(state=WorkerPhase.READY, session="s", version="1")
            for name in ("w1", "w2")
        },
        "heartbeats": {
            name: WorkerHeartbeat(epoch="e", sequence=10, session="s") for name in ("w1", "w2")
        },
        "devices": {
            ("w1", "A"): report("A", DeviceState.READY),
            ("w2", "B"): report("B", DeviceState.SERVING),
        },
    }
    return Survey(**(facts | change))


def test_given_a_farm_that_is_well_when_checked_then_all_is_ok() -> None:
    found = [
        farm.check_control(well()),
        *farm.check_workers(well()),
        *farm.check_devices(well()),
        farm.check_versions(well(), "1"),
        farm.check_clock(well(), NOW, here=False),
        farm.check_profile(None, ADDRESS),
        farm.check_broker(ADDRESS, None, 0.01),
    ]
    assert [level(finding) for finding in found] == ["ok"] * len(found)


def test_given_no_profile_when_checked_then_the_remedy_starts_a_farm() -> None:
    none = farm.check_profile(NoProfile("none"), None)
    assert level(none) == "fail"
    assert "icebus up" in none.remedy
    assert level(farm.check_profile(InvalidRequest("broken"), None)) == "fail"


@pytest.mark.parametrize(
    ("address", "error", "remedy"),
    [
        (HERE, BrokerUnavailable("gone; start it", remedy="start it"), "start it"),
        (ADDRESS, NotAuthorized("no"), "icebus profile"),
    ],
)
def test_given_a_broker_that_does_not_take_us_in_when_checked_then_the_remedy_fits(
    address: BrokerAddress, error: Any, remedy: str
) -> None:
    found = farm.check_broker(address, error, 0)
    assert level(found) == "fail"
    assert remedy in found.remedy
    assert found.found in ("gone", "no")


@pytest.mark.parametrize(
    "change",
    [
        {"controls": {}, "heartbeat": None},
        {"controls": {"main": ControlState(state=Presence.LOST, session="c")}},
        {"heartbeat": None},
    ],
)
def test_given_no_control_that_leads_when_checked_then_it_fails(change: dict[str, Any]) -> None:
    assert level(farm.check_control(well(**change))) == "fail"


def remedies(started_by: str) -> str:
    bare: dict[str, Any] = {"controls": {}, "heartbeat": None, "workers": {}, "devices": {}}
    found = [
        farm.check_control(well(**bare), started_by),
        *farm.check_workers(well(**bare), started_by),
        *farm.check_devices(well(**bare), started_by),
    ]
    return " ".join(each.remedy for each in found)


def test_given_a_farm_of_this_machine_or_a_labs_when_checked_then_the_remedies_fit() -> None:
    assert remedies("icebus up -d x").count("`icebus up -d x") == 3
    assert "icebus up" not in remedies("")


def test_given_a_database_that_is_away_when_checked_then_it_is_named_with_the_remedy() -> None:
    trouble = DatabaseTrouble(since=NOW, cause=DatabaseCause.FULL)
    away = ControlState(state=Presence.ONLINE, session="c", database=trouble)
    fine = ControlState(state=Presence.ONLINE, session="d")

    only, one_of_two = (
        farm.check_control(well(controls=controls))
        for controls in ({"main": away}, {"main": away, "other": fine})
    )

    assert (level(only), level(one_of_two)) == ("fail", "warn")
    assert "main's database has no room left, since 20" in only.found
    assert "make room" in only.remedy


def test_given_a_worker_that_is_gone_or_silent_when_checked_then_it_is_named() -> None:
    late = WorkerHeartbeat(epoch="e", sequence=5, session="s")
    fresh = well().heartbeats["w1"]
    silent = well(heartbeats={"w1": fresh, "w2": late})
    assert [level(each) for each in farm.check_workers(silent)] == ["ok", "warn"]
    assert "w2 does not answer" in farm.check_workers(silent)[1].found
    lost = WorkerState(state=WorkerPhase.LOST, session="s")
    gone = well(workers={"w1": lost, "w2": lost})
    assert [level(each) for each in farm.check_workers(gone)] == ["fail", "fail"]
    assert level(*farm.check_workers(well(workers={}))) == "fail"


def test_given_no_heartbeat_when_checked_then_workers_are_not_blamed_for_it() -> None:
    assert [level(each) for each in farm.check_workers(well(heartbeat=None))] == ["ok"]


def test_given_boards_in_trouble_when_checked_then_each_is_told_with_its_reason() -> None:
    broken = report("A", DeviceState.BROKEN, reason="no answer")
    out = report("B", DeviceState.QUARANTINED)
    one = farm.check_devices(well(devices={("w1", "A"): broken, **_second(DeviceState.READY)}))
    assert [level(each) for each in one] == ["ok", "warn"]
    assert one[1].found == "A is broken: no answer"
    all_bad = farm.check_devices(well(devices={("w1", "A"): broken, ("w2", "B"): out}))
    assert [level(each) for each in all_bad] == ["fail", "warn", "warn"]
    assert level(*farm.check_devices(well(devices={}))) == "fail"


def _second(state: DeviceState) -> dict[tuple[str, str], DeviceReport]:
    return {("w2", "B"): report("B", state)}


def test_given_boards_that_two_workers_claim_when_checked_then_both_are_named() -> None:
    def claim(serial: str) -> DeviceClaim:
        return DeviceClaim(
            serial=serial, worker="w1", claimed_by=["w2"], since=NOW, remedy="move it"
        )

    one = well(claims={"B": claim("B")})
    (found,) = farm.check_claims(one)
    many = farm.check_claims(well(claims={f"{n:02}": claim(f"{n:02}") for n in range(20)}))

    assert farm.check_claims(well()) == []
    assert (level(found), found.remedy) == ("fail", "move it")
    assert found.found == "B of w1 is claimed by w2 too"
    assert farm.check_devices(one)[0].found == "1 ready", "it is one board"
    assert len(many) == 6
    assert many[-1].found == "15 more are claimed by several workers"


def test_given_a_board_of_a_lost_worker_when_checked_then_it_does_not_count() -> None:
    lost = {**well().workers, "w2": WorkerState(state=WorkerPhase.LOST, session="s")}
    (finding,) = farm.check_devices(well(workers=lost))
    assert finding.found == "1 ready"


def test_given_parts_of_other_versions_when_checked_then_they_are_named() -> None:
    found = farm.check_versions(well(), "2")
    assert level(found) == "warn"
    assert "w1 1" in found.found
    info = KindInfo(firmware="f", args={})
    kinds = {
        "w1": WorkerKinds(kinds={"k": info}),
        "w2": WorkerKinds(kinds={"k": info.model_copy(update={"firmware": "g"})}),
    }
    differ = farm.check_versions(well(kinds=kinds), "1")
    assert level(differ) == "warn"
    assert "kind k" in differ.found


def test_given_times_that_can_t_be_when_checked_then_the_clocks_differ() -> None:
    ahead = well(devices={("w1", "A"): report("A", DeviceState.READY, since=NOW + _s(60))})
    assert "60 s or more ahead" in farm.check_clock(ahead, NOW, here=False).found
    overdue = Reservation(
        id="r",
        user="ann",
        kind="k",
        state=ReservationState.ACTIVE,
        devices=[],
        created=NOW - _s(900),
        until=NOW - _s(600),
    )
    behind = farm.check_clock(well(reservations={"r": overdue}), NOW, here=False)
    assert level(behind) == "warn"
    assert "600 s or more behind" in behind.found


def _s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def test_given_nothing_named_when_the_farm_is_checked_then_that_is_one_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name in ("ICEBUS_URL", "ICEBUS_FARM"):
        monkeypatch.delenv(name, raising=False)
    (finding,) = farm.findings(None)
    assert level(finding) == "fail"


def test_given_a_port_on_which_nothing_listens_when_checked_then_the_broker_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(farm, "TIMEOUT", 0.1)
    monkeypatch.setenv("ICEBUS_URL", "mqtt://ann:secret@127.0.0.1:1")
    profile, broker = farm.findings(None)
    assert (level(profile), level(broker)) == ("ok", "fail")


@pytest.mark.parametrize(
    ("days", "level", "said"),
    [(400, "ok", "good until"), (31, "ok", "good until"), (29, "warn", "ends"), (-1, "warn", "")],
)
def test_given_the_certificate_of_the_broker_then_its_end_is_warned_of_a_month_before(
    days: int, level: str, said: str
) -> None:
    now = 1_800_000_000.0

    finding = farm.check_certificate(now + days * 86_400, now)

    assert finding.level.value == level
    assert said in finding.found
    assert ("`icebus-broker renew`" in finding.remedy) == (level == "warn")
