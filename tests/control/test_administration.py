"""What administrators do, and what the history tells of it, on a real database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from icebus.control.operations.due import retention
from icebus.control.operations.reports import device_reports, republishing
from icebus.control.settings import Settings
from icebus.schemas.components import WorkerPhase, WorkerState
from icebus.schemas.devices import Desired, DeviceState, WorkerDesired
from icebus.schemas.errors import (
    Conflict,
    DeviceUnavailable,
    InvalidRequest,
    NotEnoughDevices,
    ReservationEnded,
    UnknownDevice,
    UnknownOperation,
)
from icebus.schemas.operations.reservations import ReservationState

if TYPE_CHECKING:
    from tests.control.harness import Harness


def desired(harness: Harness) -> dict[str, Desired]:
    return {
        each.message.serial: each.message
        for each in harness.sent
        if isinstance(each.message, Desired)
    }


def drained(harness: Harness) -> dict[str, str | None]:
    return {
        each.topic: each.message.draining
        for each in harness.sent
        if isinstance(each.message, WorkerDesired)
    }


def gone(harness: Harness, worker: str, *serials: str) -> None:
    state = WorkerState(state=WorkerPhase.LOST, session=worker, serials=list(serials))
    harness.workers.on_state(worker, state, harness.at)
    harness.run(lambda transaction: device_reports.record_devices(transaction, set(serials), set()))


def test_when_an_administrator_ends_a_reservation_then_its_holder_is_told_why(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    made = harness.reserve(count=1)

    harness.administer("end", reservation=made.id, reason="maintenance")

    assert harness.events() == ["reservation_ended"]
    with pytest.raises(ReservationEnded) as over:
        harness.administer("end", reservation=made.id)
    assert over.value.details["reason"] == "ended_by_admin"
    [entry] = harness.ask("x", "history", events=["ended"])["entries"]
    assert (entry["actor"], entry["user"]) == ("root", "alice")
    assert entry["reason"] == "ended_by_admin: maintenance"


@pytest.mark.parametrize(
    ("operation", "nonces"), [("reboot", ((1, 0), (2, 0))), ("reflash", ((0, 1), (0, 2)))]
)
def test_when_told_to_restart_a_board_then_the_nonce_counts_up_once_for_each_request(
    harness: Harness, operation: str, nonces: Any
) -> None:
    harness.worker("w1", "a", "b")
    made = harness.reserve(serials=["a"])

    first = harness.administer(operation, "one", serials=["b", "a"], reason="it babbles")
    told = desired(harness)
    harness.administer(operation, "one", serials=["b", "a"], reason="it babbles")
    repeated = desired(harness)
    harness.administer(operation, "two", serials=["a"])
    again = desired(harness)

    assert first == {"serials": ["a", "b"]}
    assert [(told[serial].reboot, told[serial].reflash) for serial in "ab"] == [nonces[0]] * 2
    assert (told["a"].reservation, told["a"].generation) == (made.id, 2)
    assert (told["b"].reservation, told["b"].generation) == (None, 1)
    assert repeated == {}
    assert (again["a"].reboot, again["a"].reflash) == nonces[1]
    with pytest.raises(UnknownDevice):
        harness.administer(operation, serials=["a", "ghost"])


def test_when_quarantined_then_nobody_gets_it_until_it_is_not_and_that_outlives_a_restart(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    made = harness.reserve(serials=["a"])
    harness.report_serving("w1", made)

    changed = harness.administer("quarantine", serials=["a", "b"], reason="loose socket")
    told = desired(harness)
    same = harness.administer("quarantine", serials=["a"], reason="loose socket")
    harness.report("w1", "a", DeviceState.QUARANTINED, reason="loose socket")
    failed = harness.events()
    harness.report("w1", "b", DeviceState.READY)
    with pytest.raises(DeviceUnavailable, match="b is quarantined: loose socket"):
        harness.reserve("bob", serials=["b"])
    harness.run(republishing.publish_everything)
    again = desired(harness)
    waiting = harness.reserve("bob", serials=["b"], wait=60)
    released = harness.administer("unquarantine", serials=["a", "b"])
    harness.report_ready("w1", "b")

    assert (changed, same) == ({"serials": ["a", "b"]}, {"serials": []})
    assert {each.quarantined for each in told.values()} == {"loose socket"}
    assert told["a"].reservation == made.id
    assert failed == ["device_failed"]
    assert again == told
    assert released == {"serials": ["a", "b"]}
    assert harness.current(waiting).state is ReservationState.PREPARING


def test_given_a_device_that_its_worker_gave_up_when_unquarantined_then_it_is_rebooted(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.report("w1", "a", DeviceState.QUARANTINED, reason="never answers")

    harness.administer("unquarantine", serials=["a"])

    assert (desired(harness)["a"].reboot, desired(harness)["a"].quarantined) == (1, None)


def test_given_a_worker_that_drains_then_it_keeps_what_it_has_and_gets_nothing_new(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    made = harness.reserve(serials=["a"])

    reply = harness.administer("drain", worker="w1", reason="new kernel")
    told = drained(harness)
    with pytest.raises(NotEnoughDevices, match="2 on workers that drain"):
        harness.reserve("bob", count=1)
    known = [each["draining"] for each in harness.ask("bob", "devices")["devices"]]
    waiting = harness.reserve("bob", count=1, wait=60)
    harness.run(republishing.publish_everything)
    again = drained(harness)
    harness.administer("undrain", worker="w1")

    assert reply == {"worker": "w1", "reservations": [made.id]}
    assert told == again == {"worker/w1/desired": "new kernel"}
    assert drained(harness) == {"worker/w1/desired": None}
    assert known == ["new kernel", "new kernel"]
    assert harness.current(waiting).state is ReservationState.PREPARING
    with pytest.raises(InvalidRequest, match="known: w1"):
        harness.administer("drain", worker="w2")


def test_given_a_worker_that_is_gone_when_drained_then_it_is_told_so_when_it_is_back(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    gone(harness, "w1", "a")

    harness.administer("drain", worker="w1")

    assert drained(harness) == {"worker/w1/desired": "drained by root"}


def test_given_a_device_that_is_gone_when_forgotten_then_nothing_of_it_is_left_but_history(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    made = harness.reserve(serials=["a"])
    with pytest.raises(Conflict, match="b is there"):
        harness.administer("forget", serials=["b"])
    gone(harness, "w1", "a", "b")
    with pytest.raises(Conflict, match="held by alice"):
        harness.administer("forget", serials=["a", "b"])
    harness.ask("alice", "end", reservation=made.id)

    harness.administer("forget", serials=["a", "b"], reason="sold")
    cleared = {each.topic for each in harness.sent if each.message == b""}
    harness.run(
        lambda transaction: device_reports.record_devices(transaction, {"a", "b"}, {"a", "b"})
    )

    assert cleared == {
        f"worker/w1/{what}/{serial}" for what in ("device", "desired") for serial in "ab"
    }
    assert harness.ask("alice", "devices")["devices"] == []
    assert harness.history(serial="a")[-1] == ("forgotten", "root", "a")
    # Its worker knows more of its past than we do now, so that we get ahead of it.
    harness.worker("w1", "a")
    harness.report_ready("w1", "a")
    assert harness.reserve(serials=["a"]).state is ReservationState.PREPARING


def test_given_an_absent_device_of_a_worker_that_is_there_then_it_can_be_forgotten(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.report("w1", "a", DeviceState.ABSENT)

    harness.administer("forget", serials=["a"])
    harness.report("w1", "a", DeviceState.ABSENT)
    absent = harness.ask("alice", "devices")["devices"]
    harness.report_ready("w1", "a")

    assert absent == []
    assert len(harness.ask("alice", "devices")["devices"]) == 1


def test_given_an_operation_of_administrators_then_users_do_not_have_it_nor_its_answers(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    made = harness.reserve("root", count=1)

    with pytest.raises(UnknownOperation, match="it has reserve"):
        harness.ask("alice", "quarantine", serials=["a"], reason="because")
    with pytest.raises(UnknownOperation, match="it has end, reboot"):
        harness.administer("reserve")
    harness.ask("root", "end", "one", reservation=made.id)
    with pytest.raises(Conflict):
        harness.administer("end", "one", reservation=made.id)


# --- the history ----------------------------------------------------------------------------------


def test_given_a_history_then_it_is_read_in_pages_newest_first(harness: Harness) -> None:
    harness.worker("w1", "a", "b")
    made = harness.reserve(count=2)
    harness.ask("alice", "extend", reservation=made.id, duration=60)
    harness.wait(seconds=1)
    harness.ask("alice", "end", reservation=made.id)
    later = harness.reserve("bob", serials=["a"], wait=60)

    pages, before = [], None
    while True:
        page = harness.ask("x", "history", limit=3, before=before)["entries"]
        if not page:
            break
        pages.append(page)
        before = page[-1]["number"]
    entries = [entry for page in pages for entry in page]

    assert [(entry["event"], entry["serial"]) for entry in reversed(entries)] == [
        ("reserved", "a"),
        ("reserved", "b"),
        ("extended", None),
        ("released", "a"),
        ("released", "b"),
        ("ended", None),
        ("queued", None),
    ]
    assert [len(page) for page in pages] == [3, 3, 1]
    since = (harness.now - timedelta(seconds=0.5)).isoformat()
    assert len(harness.history(since=since)) == 4
    assert harness.history(user="bob") == [("queued", "bob", None)]
    assert harness.history(reservation=later.id) == [("queued", "bob", None)]
    assert harness.history(serial="b", events=["reserved"]) == [("reserved", "alice", "b")]
    assert harness.history(worker="w2") == []


def test_when_a_request_is_refused_then_the_history_says_nothing_of_it(harness: Harness) -> None:
    harness.worker("w1", "a")

    with pytest.raises(NotEnoughDevices):
        harness.reserve(count=2)

    assert harness.history() == []


def test_when_history_is_old_then_it_is_dropped_and_numbers_go_on(harness: Harness) -> None:
    harness.settings = Settings(max_duration=7200, history_days=2)
    harness.worker("w1", "a")
    harness.reserve(count=1, duration=60)
    harness.wait(seconds=60)
    [newest, *_] = harness.ask("x", "history")["entries"]

    harness.now += timedelta(days=2, seconds=1)
    harness.run(retention.drop_some)
    dropped = harness.history()
    harness.report_ready("w1", "a")
    harness.reserve(count=1)

    assert dropped == []
    assert harness.ask("x", "history")["entries"][0]["number"] > newest["number"]
