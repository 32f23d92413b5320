"""What administrators do, and what the history tells of it, on a real database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from icebus.control.operations import device_reports, expiry, republishing
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
from icebus.schemas.reservations import ReservationState

if TYPE_CHECKING:
    from tests.control.desk import Desk


def desired(desk: Desk) -> dict[str, Desired]:
    return {
        each.message.serial: each.message for each in desk.sent if isinstance(each.message, Desired)
    }


def drained(desk: Desk) -> dict[str, str | None]:
    return {
        each.topic: each.message.draining
        for each in desk.sent
        if isinstance(each.message, WorkerDesired)
    }


def gone(desk: Desk, worker: str, *serials: str) -> None:
    state = WorkerState(state=WorkerPhase.LOST, session=worker, serials=list(serials))
    desk.workers.on_state(worker, state, desk.at)
    desk.run(lambda transaction: device_reports.record_devices(transaction, set(serials), set()))


def test_when_an_administrator_ends_a_reservation_then_its_holder_is_told_why(desk: Desk) -> None:
    desk.worker("w1", "a")
    made = desk.reserve(count=1)

    desk.order("end", reservation=made.id, reason="maintenance")

    assert desk.events() == ["reservation_ended"]
    with pytest.raises(ReservationEnded) as over:
        desk.order("end", reservation=made.id)
    assert over.value.details["reason"] == "ended_by_admin"
    [entry] = desk.ask("x", "history", events=["ended"])["entries"]
    assert (entry["actor"], entry["user"]) == ("root", "alice")
    assert entry["reason"] == "ended_by_admin: maintenance"


@pytest.mark.parametrize(
    ("operation", "nonces"), [("reboot", ((1, 0), (2, 0))), ("reflash", ((0, 1), (0, 2)))]
)
def test_when_told_to_restart_a_board_then_the_nonce_counts_up_once_for_each_request(
    desk: Desk, operation: str, nonces: Any
) -> None:
    desk.worker("w1", "a", "b")
    made = desk.reserve(serials=["a"])

    first = desk.order(operation, "one", serials=["b", "a"], reason="it babbles")
    told = desired(desk)
    desk.order(operation, "one", serials=["b", "a"], reason="it babbles")
    repeated = desired(desk)
    desk.order(operation, "two", serials=["a"])
    again = desired(desk)

    assert first == {"serials": ["a", "b"]}
    assert [(told[serial].reboot, told[serial].reflash) for serial in "ab"] == [nonces[0]] * 2
    assert (told["a"].reservation, told["a"].generation) == (made.id, 2)
    assert (told["b"].reservation, told["b"].generation) == (None, 1)
    assert repeated == {}
    assert (again["a"].reboot, again["a"].reflash) == nonces[1]
    with pytest.raises(UnknownDevice):
        desk.order(operation, serials=["a", "ghost"])


def test_when_quarantined_then_nobody_gets_it_until_it_is_not_and_that_outlives_a_restart(
    desk: Desk,
) -> None:
    desk.worker("w1", "a", "b")
    made = desk.reserve(serials=["a"])
    desk.serve("w1", made)

    changed = desk.order("quarantine", serials=["a", "b"], reason="loose socket")
    told = desired(desk)
    same = desk.order("quarantine", serials=["a"], reason="loose socket")
    desk.report("w1", "a", DeviceState.QUARANTINED, reason="loose socket")
    failed = desk.events()
    desk.report("w1", "b", DeviceState.READY)
    with pytest.raises(DeviceUnavailable, match="b is quarantined: loose socket"):
        desk.reserve("bob", serials=["b"])
    desk.run(republishing.publish_everything)
    again = desired(desk)
    waiting = desk.reserve("bob", serials=["b"], wait=60)
    released = desk.order("unquarantine", serials=["a", "b"])
    desk.rest("w1", "b")

    assert (changed, same) == ({"serials": ["a", "b"]}, {"serials": []})
    assert {each.quarantined for each in told.values()} == {"loose socket"}
    assert told["a"].reservation == made.id
    assert failed == ["device_failed"]
    assert again == told
    assert released == {"serials": ["a", "b"]}
    assert desk.look(waiting).state is ReservationState.PREPARING


def test_given_a_device_that_its_worker_gave_up_when_unquarantined_then_it_is_rebooted(
    desk: Desk,
) -> None:
    desk.worker("w1", "a")
    desk.report("w1", "a", DeviceState.QUARANTINED, reason="never answers")

    desk.order("unquarantine", serials=["a"])

    assert (desired(desk)["a"].reboot, desired(desk)["a"].quarantined) == (1, None)


def test_given_a_worker_that_drains_then_it_keeps_what_it_has_and_gets_nothing_new(
    desk: Desk,
) -> None:
    desk.worker("w1", "a", "b")
    made = desk.reserve(serials=["a"])

    reply = desk.order("drain", worker="w1", reason="new kernel")
    told = drained(desk)
    with pytest.raises(NotEnoughDevices, match="2 on workers that drain"):
        desk.reserve("bob", count=1)
    known = [each["draining"] for each in desk.ask("bob", "devices")["devices"]]
    waiting = desk.reserve("bob", count=1, wait=60)
    desk.run(republishing.publish_everything)
    again = drained(desk)
    desk.order("undrain", worker="w1")

    assert reply == {"worker": "w1", "reservations": [made.id]}
    assert told == again == {"worker/w1/desired": "new kernel"}
    assert drained(desk) == {"worker/w1/desired": None}
    assert known == ["new kernel", "new kernel"]
    assert desk.look(waiting).state is ReservationState.PREPARING
    with pytest.raises(InvalidRequest, match="known: w1"):
        desk.order("drain", worker="w2")


def test_given_a_worker_that_is_gone_when_drained_then_it_is_told_so_when_it_is_back(
    desk: Desk,
) -> None:
    desk.worker("w1", "a")
    gone(desk, "w1", "a")

    desk.order("drain", worker="w1")

    assert drained(desk) == {"worker/w1/desired": "drained by root"}


def test_given_a_device_that_is_gone_when_forgotten_then_nothing_of_it_is_left_but_history(
    desk: Desk,
) -> None:
    desk.worker("w1", "a", "b")
    made = desk.reserve(serials=["a"])
    with pytest.raises(Conflict, match="b is there"):
        desk.order("forget", serials=["b"])
    gone(desk, "w1", "a", "b")
    with pytest.raises(Conflict, match="held by alice"):
        desk.order("forget", serials=["a", "b"])
    desk.ask("alice", "end", reservation=made.id)

    desk.order("forget", serials=["a", "b"], reason="sold")
    cleared = {each.topic for each in desk.sent if each.message == b""}
    desk.run(lambda transaction: device_reports.record_devices(transaction, {"a", "b"}, {"a", "b"}))

    assert cleared == {
        f"worker/w1/{what}/{serial}" for what in ("device", "desired") for serial in "ab"
    }
    assert desk.ask("alice", "devices")["devices"] == []
    assert desk.history(serial="a")[-1] == ("forgotten", "root", "a")
    # Its worker knows more of its past than we do now, so that we get ahead of it.
    desk.worker("w1", "a")
    desk.rest("w1", "a")
    assert desk.reserve(serials=["a"]).state is ReservationState.PREPARING


def test_given_an_absent_device_of_a_worker_that_is_there_then_it_can_be_forgotten(
    desk: Desk,
) -> None:
    desk.worker("w1", "a")
    desk.report("w1", "a", DeviceState.ABSENT)

    desk.order("forget", serials=["a"])
    desk.report("w1", "a", DeviceState.ABSENT)
    absent = desk.ask("alice", "devices")["devices"]
    desk.rest("w1", "a")

    assert absent == []
    assert len(desk.ask("alice", "devices")["devices"]) == 1


def test_given_an_operation_of_administrators_then_users_do_not_have_it_nor_its_answers(
    desk: Desk,
) -> None:
    desk.worker("w1", "a")
    made = desk.reserve("root", count=1)

    with pytest.raises(UnknownOperation, match="it has reserve"):
        desk.ask("alice", "quarantine", serials=["a"], reason="because")
    with pytest.raises(UnknownOperation, match="it has end, reboot"):
        desk.order("reserve")
    desk.ask("root", "end", "one", reservation=made.id)
    with pytest.raises(Conflict):
        desk.order("end", "one", reservation=made.id)


# --- the history ----------------------------------------------------------------------------------


def test_given_a_history_then_it_is_read_in_pages_newest_first(desk: Desk) -> None:
    desk.worker("w1", "a", "b")
    made = desk.reserve(count=2)
    desk.ask("alice", "extend", reservation=made.id, duration=60)
    desk.wait(seconds=1)
    desk.ask("alice", "end", reservation=made.id)
    later = desk.reserve("bob", serials=["a"], wait=60)

    pages, before = [], None
    while True:
        page = desk.ask("x", "history", limit=3, before=before)["entries"]
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
    since = (desk.now - timedelta(seconds=0.5)).isoformat()
    assert len(desk.history(since=since)) == 4
    assert desk.history(user="bob") == [("queued", "bob", None)]
    assert desk.history(reservation=later.id) == [("queued", "bob", None)]
    assert desk.history(serial="b", events=["reserved"]) == [("reserved", "alice", "b")]
    assert desk.history(worker="w2") == []


def test_when_a_request_is_refused_then_the_history_says_nothing_of_it(desk: Desk) -> None:
    desk.worker("w1", "a")

    with pytest.raises(NotEnoughDevices):
        desk.reserve(count=2)

    assert desk.history() == []


def test_when_history_is_old_then_it_is_dropped_and_numbers_go_on(desk: Desk) -> None:
    desk.settings = Settings(max_duration=7200, history_days=2)
    desk.worker("w1", "a")
    desk.reserve(count=1, duration=60)
    desk.wait(seconds=60)
    [newest, *_] = desk.ask("x", "history")["entries"]

    desk.now += timedelta(days=2, seconds=1)
    desk.run(expiry.drop_old)
    dropped = desk.history()
    desk.rest("w1", "a")
    desk.reserve(count=1)

    assert dropped == []
    assert desk.ask("x", "history")["entries"][0]["number"] > newest["number"]
