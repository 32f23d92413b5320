"""A device that two workers claim: an alarm, and nothing else, until its owner lets go of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from icebus.control.operations.reports import claims, device_reports, republishing
from icebus.control.store.tables import DeviceRow
from icebus.schemas.components import WorkerPhase, WorkerState
from icebus.schemas.devices import DeviceClaim, DeviceState
from icebus.schemas.errors import Conflict, UnknownDevice
from icebus.schemas.operations.reservations import HoldState

if TYPE_CHECKING:
    from tests.control.harness import Harness

    from icebus.control.transaction import Transaction


def alarms(harness: Harness) -> dict[str, tuple[str, list[str]]]:
    """What a dashboard sees."""
    return {
        each.message.serial: (each.message.worker, each.message.claimed_by)
        for each in harness.retained.values()
        if isinstance(each.message, DeviceClaim)
    }


def pass_time(harness: Harness, seconds: float, *answering: str) -> None:
    """Time goes by in which these workers answer heartbeats, and what changed is recorded."""
    for _ in range(max(1, int(seconds))):
        harness.at += seconds / max(1, int(seconds))
        harness.beat(*answering)
    changed = harness.workers.settle_contested(harness.at)
    harness.run(lambda transaction: device_reports.record_devices(transaction, changed))


def owner(harness: Harness, serial: str = "a") -> str:
    row = harness.run(lambda transaction: transaction.session.get(DeviceRow, serial))
    assert row is not None
    return row.worker


@pytest.fixture
def logged(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Warnings of transactions."""
    found: list[str] = []
    run = harness.run

    def noting(step: Any) -> Any:
        def noted(transaction: Transaction) -> Any:
            result = step(transaction)
            found.extend(
                text for level, text, _ in transaction.log_lines if level >= logging.WARNING
            )
            return result

        return run(noted)

    monkeypatch.setattr(harness, "run", noting)
    return found


def test_given_a_device_that_another_worker_claims_then_all_are_told_and_its_owner_keeps_it(
    harness: Harness, logged: list[str]
) -> None:
    harness.worker("w1", "a", "b")
    made = harness.reserve(serials=["a"])
    harness.report_serving("w1", made)

    harness.worker("w2", "a", "b")
    for _ in range(50):
        harness.report("w2", "a", DeviceState.SERVING, reservation=made.id)
        harness.report("w2", "a", DeviceState.BROKEN, reason="because I say so")

    assert alarms(harness) == {"a": ("w1", ["w2"]), "b": ("w1", ["w2"])}
    [device] = harness.current(made).devices
    assert (device.worker, device.state) == ("w1", HoldState.SERVING)
    known = harness.ask("bob", "devices")["devices"]
    assert [(each["worker"], each["claimed_by"]) for each in known] == [("w1", ["w2"])] * 2
    assert [each for each in harness.retained if each.startswith("worker/w2/desired")] == []
    assert len(logged) == 2, "one line for each device that was claimed, not for each report"
    assert "a" in logged[0]
    assert "w1" in logged[0]
    assert "icebus admin move a --to w2" in logged[0]
    entries = harness.ask("x", "history", events=["device_claimed"])["entries"]
    assert [(each["serial"], each["worker"], each["reason"]) for each in entries] == [
        ("b", "w2", "belongs to w1"),
        ("a", "w2", "belongs to w1"),
    ]


def test_given_a_board_that_blinks_when_another_lurks_then_it_stays_and_otherwise_goes_at_last(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.worker("w2", "a")

    for _ in range(3):
        harness.report("w1", "a", DeviceState.ABSENT)
        pass_time(harness, 30, "w1", "w2")
        assert owner(harness) == "w1"
        harness.report("w1", "a", DeviceState.READY)
        pass_time(harness, 40, "w1", "w2")
    harness.report("w1", "a", DeviceState.ABSENT)
    pass_time(harness, 61, "w1", "w2")

    assert (owner(harness), alarms(harness)) == ("w2", {})


def test_given_a_claim_when_the_claimant_takes_it_back_then_the_alarm_ends_after_a_while(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.worker("w2", "a")

    harness.report("w2", "a", DeviceState.ABSENT)
    at_once = alarms(harness)
    pass_time(harness, 61, "w1", "w2")

    assert at_once == {"a": ("w1", ["w2"])}
    assert alarms(harness) == {}
    assert harness.ask("bob", "devices")["devices"][0]["claimed_by"] == []


def test_given_an_owner_that_died_when_another_has_its_board_then_it_gets_it_ten_minutes_later(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    made = harness.reserve(count=1)
    harness.report_serving("w1", made)
    harness.lose("w1")
    harness.worker("w2", "a")

    pass_time(harness, 599, "w2")
    before = owner(harness), alarms(harness)
    pass_time(harness, 2, "w2")

    assert before == ("w1", {"a": ("w1", ["w2"])})
    assert (owner(harness), alarms(harness)) == ("w2", {})
    [device] = harness.current(made).devices
    assert device.worker == "w2"
    # The old one is back, and says that it has it: now it is the one that claims.
    harness.worker("w1", "a")
    assert (owner(harness), alarms(harness)) == ("w2", {"a": ("w2", ["w1"])})


def test_given_an_owner_that_is_silent_when_another_has_its_board_then_likewise(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.worker("w2", "a")

    for _ in range(3):
        pass_time(harness, 200, "w2")
    before = owner(harness)
    pass_time(harness, 10, "w2")

    assert (before, owner(harness)) == ("w1", "w2")


@pytest.mark.parametrize("phase", [WorkerPhase.LOST, WorkerPhase.OFFLINE])
def test_given_an_owner_that_restarts_while_another_claims_its_boards_then_it_keeps_them(
    harness: Harness, phase: WorkerPhase
) -> None:
    harness.worker("w1", "a")
    harness.worker("w2", "a")

    for _ in range(5):
        state = WorkerState(state=phase, session="w1", serials=["a"])
        harness.workers.on_state("w1", state, harness.at)
        pass_time(harness, 300, "w2")
        harness.worker("w1", "a")
        pass_time(harness, 1, "w1", "w2")
        assert owner(harness) == "w1"


def test_given_a_worker_that_starts_when_it_does_not_list_boards_yet_then_they_stay_its_own(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.worker("w2", "a")

    state = WorkerState(state=WorkerPhase.INIT, session="w1-again", serials=[])
    harness.workers.on_state("w1", state, harness.at)
    pass_time(harness, 1, "w2")

    assert owner(harness) == "w1"


def test_when_an_administrator_moves_a_device_then_its_reservation_goes_with_it_and_it_stays(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    harness.worker("w2", "a")
    made = harness.reserve(serials=["a"])
    harness.report_serving("w1", made)

    with pytest.raises(Conflict, match="worker w2 has no b; plug it in there first"):
        harness.administer("move", serials=["b"], to="w2")
    with pytest.raises(Conflict, match="worker w3 is not there; start it first"):
        harness.administer("move", serials=["a"], to="w3")
    with pytest.raises(UnknownDevice):
        harness.administer("move", serials=["c"], to="w2")
    reply = harness.administer("move", serials=["a"], to="w2", reason="w1 is broken")
    sent = {str(each.topic) for each in harness.sent if each.message == b""}
    [moved] = harness.current(made).devices
    again = harness.administer("move", serials=["a"], to="w2")
    for _ in range(3):
        pass_time(harness, 1, "w1", "w2")
    harness.report_serving("w1", made)
    lies = harness.current(made).devices
    harness.report_serving("w2", made)
    [serves] = harness.current(made).devices

    assert (reply, again) == ({"serials": ["a"]}, {"serials": []})
    assert sent == {"worker/w1/desired/a"}
    assert (moved.worker, moved.state) == ("w2", HoldState.PREPARING)
    assert [each.state for each in lies] == [HoldState.PREPARING]
    assert (serves.worker, serves.state) == ("w2", HoldState.SERVING)
    assert (owner(harness), alarms(harness)["a"]) == ("w2", ("w2", ["w1"]))
    [entry] = harness.ask("x", "history", events=["device_moved"])["entries"]
    assert (entry["actor"], entry["worker"]) == ("root", "w2")
    assert entry["reason"] == "from w1: w1 is broken"


def test_given_that_another_control_moved_a_device_when_this_one_looks_then_it_agrees(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.worker("w2", "a")

    def elsewhere(transaction: Transaction) -> None:
        row = transaction.session.get(DeviceRow, "a")
        assert row is not None
        row.worker = "w2"

    harness.run(elsewhere)
    harness.run(republishing.repeat_desired)

    assert harness.workers.owner("a") == owner(harness) == "w2"
    assert alarms(harness) == {"a": ("w2", ["w1"])}


def test_when_control_begins_to_lead_then_alarms_are_told_anew_and_those_that_are_over_cleared(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    harness.worker("w2", "a")
    before = alarms(harness)
    harness.retained.clear()

    harness.run(republishing.publish_everything)
    again = alarms(harness)
    harness.run(lambda transaction: claims.repeat_claims(transaction, {"a", "b", "never"}))
    cleared = {str(each.topic) for each in harness.sent if each.message == b""}

    assert before == again == alarms(harness) == {"a": ("w1", ["w2"])}
    assert cleared == {"control/claim/b", "control/claim/never"}
