"""Workers retire: what they had ends or goes elsewhere, and nothing of them is left but history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.control.test_claims import alarms, owner, pass_time

from icebus.control.operations.due import retirement
from icebus.control.store.tables import DeviceRow, HoldRow
from icebus.schemas.components import (
    KnownPrincipal,
    Principals,
    WorkerPhase,
    WorkerState,
)
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import Conflict, DeviceUnavailable, InvalidRequest
from icebus.schemas.operations.administration import WorkerRetired
from icebus.schemas.operations.reservations import HoldState, ReservationState

if TYPE_CHECKING:
    from tests.control.harness import Harness

ITS_OWN = ("kinds", "heartbeat", "state", "desired")


def retire(harness: Harness, worker: str, reason: str = "") -> WorkerRetired:
    """Retire a worker, and hear that its state was cleared, as from a broker."""
    done = WorkerRetired.model_validate(harness.administer("retire", worker=worker, reason=reason))
    hear_cleared(harness, worker)
    return done


def hear_cleared(harness: Harness, worker: str) -> None:
    cleared = [str(each.topic) for each in harness.sent if each.message == b""]
    assert [each for each in cleared if each.count("/") == 2 and each.startswith("worker")] == [
        f"worker/{worker}/{what}" for what in ITS_OWN
    ]
    harness.workers.on_state(worker, None, harness.at)
    pass_time(harness, 0.1, *(each.name for each in harness.workers.all()))


def test_given_a_worker_that_is_there_when_retired_then_it_is_refused_with_the_remedy(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")

    with pytest.raises(Conflict, match=r"stop it first .* `icebus-broker remove w1`"):
        harness.administer("retire", worker="w1")
    with pytest.raises(InvalidRequest, match="no worker w9 was ever here; known: w1"):
        harness.administer("retire", worker="w9")


def test_given_a_worker_that_is_gone_when_retired_then_nothing_is_left_of_it_but_history(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    harness.worker("w2", "c")
    harness.lose("w1")

    done = retire(harness, "w1", "sold")
    again = retire(harness, "w1")

    assert sorted(done.forgotten) == ["a", "b"]
    assert again.forgotten == []
    assert [each["report"]["serial"] for each in harness.ask("x", "devices")["devices"]] == ["c"]
    assert not [each for each in harness.retained if "w1" in each]
    assert [each.name for each in harness.workers.all()] == ["w2"]
    events = harness.history(worker="w1")
    assert events[-3:] == [
        ("forgotten", "root", "a"),
        ("forgotten", "root", "b"),
        ("retired", "root", None),
    ]
    with pytest.raises(InvalidRequest, match="no worker w1"):
        harness.administer("drain", worker="w1")


def test_given_reservations_on_it_when_retired_then_they_are_replaced_or_end_and_say_why(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b", "c")
    replaced = harness.reserve(serials=["a"], replace=True)
    ended = harness.reserve("bob", serials=["b"])
    harness.worker("w2", "d", "e")
    partly = harness.reserve("carol", serials=["c", "d"])
    for each in (replaced, ended, partly):
        harness.report_serving("w1", each)
    harness.lose("w1")

    done = retire(harness, "w1", "sold")
    pass_time(harness, 20, "w2")

    assert sorted(done.lost) == ["a", "b", "c"]
    assert done.ended == [ended.id]
    live = {each.id: each for each in harness.live()}
    assert set(live) == {replaced.id, partly.id}
    states = {
        device.serial: (device.state, device.reason)
        for each in live.values()
        for device in each.devices
    }
    assert states["c"] == (HoldState.FAILED, "worker w1 was retired: sold")
    assert states["e"][0] is HoldState.PREPARING
    assert states["d"][0] is not HoldState.FAILED
    [entry] = harness.ask("x", "history", events=["ended"])["entries"]
    assert entry["reason"] == "devices_failed: worker w1 was retired: sold"
    assert ("device_replaced", "control", "a") in harness.history()
    # What was held is dropped when nobody holds it any more.
    for name, user in ((partly.id, "carol"), (replaced.id, "alice")):
        harness.ask(user, "end", reservation=name)
    harness.run(retirement.drop_orphans)
    left = harness.run(
        lambda transaction: [
            transaction.session.get(DeviceRow, serial) is not None for serial in "abcde"
        ]
    )
    assert left == [False, False, False, True, True]


def test_given_boards_that_another_has_by_now_when_retired_then_they_go_there_at_once(
    harness: Harness,
) -> None:
    harness.worker("old", "a", "b")
    made = harness.reserve(serials=["a"])
    harness.report_serving("old", made)
    harness.lose("old")
    harness.worker("new", "a", "b")

    done = retire(harness, "old")

    assert done.moved == {"a": "new", "b": "new"}
    assert (done.forgotten, done.lost, done.ended, alarms(harness)) == ([], [], [], {})
    assert {owner(harness, serial) for serial in "ab"} == {"new"}
    assert [each.worker for each in harness.current(made).devices] == ["new"]
    harness.report_serving("new", made)
    assert harness.current(made).state is ReservationState.ACTIVE


def test_given_a_board_that_shows_up_after_its_worker_was_retired_then_its_reservation_has_it(
    harness: Harness,
) -> None:
    harness.worker("old", "a")
    made = harness.reserve(serials=["a"], replace=True)
    harness.report_serving("old", made)
    harness.lose("old")
    retire(harness, "old")

    harness.worker("new", "a")

    assert owner(harness) == "new"
    [device] = harness.current(made).devices
    assert device.worker == "new"
    harness.report_serving("new", made)
    assert harness.current(made).devices[0].state is HoldState.SERVING


def test_given_a_quarantined_device_when_its_worker_is_retired_then_it_is_so_where_it_comes_back(
    harness: Harness,
) -> None:
    harness.worker("old", "a")
    harness.administer("quarantine", serials=["a"], reason="loose socket")
    harness.lose("old")

    done = retire(harness, "old")
    harness.run(retirement.drop_orphans)
    shown = harness.ask("x", "devices")["devices"]
    harness.worker("new", "a")

    assert (done.lost, shown) == (["a"], [])
    with pytest.raises(DeviceUnavailable, match="loose socket"):
        harness.reserve(serials=["a"])
    harness.administer("unquarantine", serials=["a"])
    harness.report_ready("new", "a")
    assert harness.reserve(serials=["a"]).state is ReservationState.PREPARING


def test_given_a_quarantined_device_of_a_retired_worker_then_it_can_be_forgotten(
    harness: Harness,
) -> None:
    harness.worker("old", "a")
    harness.administer("quarantine", serials=["a"], reason="loose socket")
    harness.lose("old")
    retire(harness, "old")

    assert harness.administer("forget", serials=["a"]) == {"serials": ["a"]}


def test_given_a_retired_worker_when_it_is_there_after_all_then_it_is_known_anew(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    made = harness.reserve(serials=["a"])
    harness.report_serving("w1", made)
    harness.lose("w1")
    retire(harness, "w1")

    harness.worker("w1", "a")
    harness.run(lambda transaction: retirement.take_note_of(transaction, {"w1"}))
    harness.report("w1", "a", DeviceState.SERVING, generation=7, reservation=made.id)
    told = harness.published_desired()
    harness.report_ready("w1", "a")

    assert told == {"a": None}, "what it held is over"
    assert harness.reserve("bob", serials=["a"]).devices[0].worker == "w1"
    assert harness.administer("drain", worker="w1")["worker"] == "w1"


def test_given_a_retired_worker_when_its_last_will_comes_late_then_that_is_cleared(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.lose("w1")
    retire(harness, "w1")

    late = WorkerState(state=WorkerPhase.LOST, session="w1", serials=[])
    harness.workers.on_state("w1", late, harness.at)
    harness.run(lambda transaction: retirement.take_note_of(transaction, {"w1"}))

    hear_cleared(harness, "w1")
    assert list(harness.workers.all()) == []


def test_given_a_retired_worker_when_a_bridge_brings_its_reports_once_more_then_they_are_cleared(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    harness.lose("w1")
    retire(harness, "w1")

    harness.report("w1", "b", DeviceState.READY)
    harness.run(lambda transaction: retirement.take_note_of(transaction, {"w1"}))

    assert "worker/w1/device/b" in {str(each.topic) for each in harness.sent}
    hear_cleared(harness, "w1")
    assert list(harness.workers.all()) == []


def test_given_the_brokers_list_of_names_then_workers_that_are_not_on_it_are_retired(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.worker("w2", "b")
    harness.worker("w3", "c")
    made = harness.reserve(serials=["a"])
    harness.report_serving("w1", made)

    told = Principals(
        principals=[
            KnownPrincipal(id="w1", role="user"),
            KnownPrincipal(id="oslo", role="worker", speaks_for=["w2"]),
            KnownPrincipal(id="w3", role="worker"),
        ]
    )
    done = harness.run(lambda transaction: retirement.retire_unknown(transaction, told))
    hear_cleared(harness, "w1")
    again = harness.run(lambda transaction: retirement.retire_unknown(transaction, told))

    assert [(each.worker, each.ended) for each in done] == [("w1", [made.id])]
    assert again == []
    assert harness.history(worker="w1")[-1] == ("retired", "control", None)
    assert [each["worker"] for each in harness.ask("x", "devices")["devices"]] == ["w2", "w3"]


@pytest.mark.parametrize("first", ["removed", "retired"])
def test_given_a_worker_that_is_removed_and_retired_then_the_order_makes_no_difference(
    harness: Harness, first: str
) -> None:
    harness.worker("w1", "a")
    harness.worker("w2", "b")
    made = harness.reserve(serials=["a"])
    harness.report_serving("w1", made)
    harness.lose("w1")
    left = Principals(principals=[KnownPrincipal(id="w2", role="worker")])

    if first == "retired":
        assert retire(harness, "w1").ended == [made.id]
    done = harness.run(lambda transaction: retirement.retire_unknown(transaction, left))
    assert [each.worker for each in done] == (["w1"] if first == "removed" else [])
    if first == "removed":
        hear_cleared(harness, "w1")
        assert retire(harness, "w1").ended == [], "it is no error, and nothing is left"
    again = harness.run(lambda transaction: retirement.retire_unknown(transaction, left))

    assert again == []
    assert [each["worker"] for each in harness.ask("x", "devices")["devices"]] == ["w2"]
    assert not [each for each in harness.retained if "w1" in each]
    assert harness.live() == []
    assert [each.name for each in harness.workers.all()] == ["w2"]


def test_given_a_retired_worker_when_a_late_report_of_it_comes_then_no_device_comes_of_it(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.lose("w1")
    retire(harness, "w1")

    harness.report("w1", "a", DeviceState.READY)

    assert harness.run(lambda transaction: transaction.session.get(DeviceRow, "a")) is None
    assert harness.ask("x", "devices")["devices"] == []


def test_given_a_claimant_when_retired_then_the_alarm_ends_at_once(harness: Harness) -> None:
    harness.worker("w1", "a")
    harness.worker("evil", "a")
    harness.lose("evil")
    assert alarms(harness) == {"a": ("w1", ["evil"])}

    done = retire(harness, "evil")

    assert (done.moved, done.forgotten) == ({}, [])
    assert alarms(harness) == {}
    assert owner(harness) == "w1"


def test_given_holds_of_ended_reservations_when_a_worker_is_retired_then_they_go_with_its_devices(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    made = harness.reserve(serials=["a"])
    harness.ask("alice", "end", reservation=made.id)
    harness.lose("w1")

    retire(harness, "w1")

    assert harness.run(lambda transaction: transaction.session.get(HoldRow, (made.id, "a"))) is None
