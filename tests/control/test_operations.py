"""The operations on a real database, without a broker."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlmodel import select

from icebus.control.operations.due import absent_clients, expiry, retention
from icebus.control.operations.reports import device_reports
from icebus.control.settings import Settings
from icebus.control.store import database
from icebus.control.store.tables import RequestRow, ReservationRow
from icebus.control.transaction import Transaction
from icebus.control.watch.clients import Clients
from icebus.control.watch.kinds import Kind
from icebus.schemas.components import ClientState, KindInfo, Presence, WorkerPhase, WorkerState
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import (
    Conflict,
    DeviceUnavailable,
    Forbidden,
    InvalidRequest,
    KindFailed,
    NotEnoughDevices,
    ReservationEnded,
    UnknownDevice,
    UnknownKind,
    UnknownOperation,
    UnknownReservation,
)
from icebus.schemas.operations.reservations import EndReason, Reservation, ReservationState

if TYPE_CHECKING:
    from tests.control.harness import Harness


def test_given_free_devices_when_reserved_then_each_is_told_and_no_longer_available(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b", "c")

    made = harness.reserve(count=2, duration=60)

    assert [device.serial for device in made.devices] == ["a", "b"]
    assert harness.published_desired() == {"a": made.id, "b": made.id}
    assert (made.state, made.until - made.created) == (
        ReservationState.PREPARING,
        timedelta(seconds=60),
    )
    assert harness.ask("bob", "available", kind="pulsecount")["serials"] == ["c"]


def test_given_too_few_devices_when_reserved_then_none_is_held(harness: Harness) -> None:
    harness.worker("w1", "a", "b")
    harness.reserve("bob", serials=["a"])

    with pytest.raises(NotEnoughDevices, match=r"2 devices .* 1 available.*1 held") as refused:
        harness.reserve(count=2)

    assert refused.value.details["others"] == {"held": 1}
    assert len(harness.ask("alice", "list")["reservations"]) == 1
    assert harness.ask("alice", "available", kind="pulsecount")["serials"] == ["b"]


def test_given_a_held_device_when_named_then_the_refusal_says_by_whom_and_until(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    made = harness.reserve("bob", serials=["a"])

    with pytest.raises(DeviceUnavailable, match="a is held by bob until") as refused:
        harness.reserve(serials=["a", "b"])

    assert made.until.isoformat(timespec="seconds") in refused.value.message


@pytest.mark.parametrize("state", [s for s in DeviceState if s is not DeviceState.READY])
def test_given_a_device_that_is_not_ready_when_named_then_the_refusal_says_its_state(
    harness: Harness, state: DeviceState
) -> None:
    harness.worker("w1", "a")
    harness.report("w1", "a", state, reason="as it happens")

    with pytest.raises(DeviceUnavailable, match=f"{state}: as it happens"):
        harness.reserve(serials=["a"])


def test_given_a_worker_that_stopped_answering_then_its_devices_are_not_offered(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.at += 3.1

    with pytest.raises(DeviceUnavailable, match="does not answer"):
        harness.reserve(serials=["a"])
    with pytest.raises(NotEnoughDevices, match="1 on workers that do not answer"):
        harness.reserve(count=1)


def test_given_an_unknown_device_or_kind_when_reserved_then_the_refusal_lists_what_there_is(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")

    with pytest.raises(UnknownDevice, match="ghost"):
        harness.reserve(serials=["ghost"])
    with pytest.raises(UnknownKind, match="pulsecount") as refused:
        harness.reserve(kind="teapot", count=1)
    assert refused.value.details["known"] == ["pulsecount"]


def test_when_args_are_not_what_the_worker_published_then_the_refusal_says_where(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")

    with pytest.raises(InvalidRequest, match="kind pulsecount: window:") as refused:
        harness.reserve(count=1, args={"window": "wide", "colour": "red"})

    assert len(refused.value.details["problems"]) == 2


@pytest.mark.parametrize(
    "args",
    [
        {"count": 1, "duration": float("nan")},
        {"count": 1, "duration": float("inf")},
        {"count": 1, "duration": 1e300},
        {"count": 1, "duration": -1},
        {"count": 1, "args": {"window": float("nan")}},
        {"count": 0},
        {"count": 10**30},
        {"count": 1, "serials": ["a"]},
        {},
        {"count": 1, "colour": "red"},
    ],
)
def test_when_a_request_makes_no_sense_then_it_is_refused_as_invalid(
    harness: Harness, args: dict[str, Any]
) -> None:
    harness.worker("w1", "a")

    with pytest.raises(InvalidRequest):
        harness.reserve(**args)


def test_when_longer_than_allowed_then_the_refusal_names_the_cap(harness: Harness) -> None:
    harness.worker("w1", "a")

    with pytest.raises(InvalidRequest, match="2 h") as refused:
        harness.reserve(count=1, duration=7201)

    assert refused.value.details == {"max_duration": 7200}


def test_given_a_warm_device_elsewhere_when_reserved_then_nothing_is_flashed(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", firmware="other")
    harness.worker("w2", "z")

    assert [device.serial for device in harness.reserve(count=1).devices] == ["z"]


def test_when_the_same_request_comes_again_then_it_has_the_same_answer_and_no_effect(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")

    first = harness.ask("alice", "reserve", "one", kind="pulsecount", count=1)
    again = harness.ask("alice", "reserve", "one", count=1, kind="pulsecount")

    assert again == first
    assert len(harness.ask("alice", "list")["reservations"]) == 1
    assert harness.ask(
        "alice", "end", "two", reservation=first["reservation"]["id"]
    ) == harness.ask("alice", "end", "two", reservation=first["reservation"]["id"])


def test_when_a_request_id_is_used_for_something_else_then_it_is_a_conflict(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    harness.ask("alice", "reserve", "one", kind="pulsecount", count=1)

    with pytest.raises(Conflict):
        harness.ask("alice", "reserve", "one", kind="pulsecount", count=2)
    with pytest.raises(Conflict):
        harness.ask("alice", "end", "one", reservation="r")
    assert harness.ask("bob", "reserve", "one", kind="pulsecount", count=1) is not None


def test_when_answers_are_old_then_they_are_forgotten(harness: Harness) -> None:
    harness.worker("w1", "a", "b")
    harness.ask("alice", "reserve", "old", kind="pulsecount", count=1)
    harness.now += timedelta(minutes=59)
    harness.ask("alice", "reserve", "new", kind="pulsecount", count=1)
    harness.now += timedelta(minutes=2)

    harness.run(retention.drop_some)

    assert harness.run(
        lambda transaction: transaction.session.exec(select(RequestRow.id)).all()
    ) == ["new"]


def test_when_extended_then_the_end_moves_from_where_it_was(harness: Harness) -> None:
    harness.worker("w1", "a")
    made = harness.reserve(count=1, duration=100)
    harness.now += timedelta(seconds=50)

    reply = harness.ask("alice", "extend", reservation=made.id, duration=30)

    extended = Reservation.model_validate(reply["reservation"])
    assert extended.until == made.until + timedelta(seconds=30)
    assert harness.published_desired() == {"a": made.id}


@pytest.mark.parametrize("duration", [0.001, 1, 7200, 1e300])
def test_when_extended_then_the_end_is_never_nearer_and_never_over_the_cap(
    harness: Harness, duration: float
) -> None:
    harness.worker("w1", "a")
    made = harness.reserve(count=1, duration=7200)
    harness.settings = Settings(max_duration=600)

    reply = harness.ask("alice", "extend", reservation=made.id, duration=duration)

    assert reply["before"] == reply["after"]
    assert Reservation.model_validate(reply["reservation"]).until == made.until
    harness.settings = Settings(max_duration=9000)
    reply = harness.ask("alice", "extend", reservation=made.id, duration=duration)
    until = Reservation.model_validate(reply["reservation"]).until
    assert made.until < until <= harness.now + timedelta(seconds=9000)


@pytest.mark.parametrize("duration", [float("nan"), float("inf"), 0, -5])
def test_when_extended_by_what_is_no_duration_then_it_is_refused(
    harness: Harness, duration: float
) -> None:
    harness.worker("w1", "a")
    made = harness.reserve(count=1)

    with pytest.raises(InvalidRequest):
        harness.ask("alice", "extend", reservation=made.id, duration=duration)


@pytest.mark.parametrize("operation", ["end", "extend"])
def test_given_a_reservation_of_another_user_or_none_then_it_cannot_be_touched(
    harness: Harness, operation: str
) -> None:
    harness.worker("w1", "a")
    made = harness.reserve("alice", count=1)
    more: dict[str, Any] = {"duration": 5} if operation == "extend" else {}

    with pytest.raises(Forbidden, match="alice"):
        harness.ask("bob", operation, reservation=made.id, **more)
    with pytest.raises(UnknownReservation):
        harness.ask("bob", operation, reservation="nothing", **more)
    harness.ask("alice", "end", reservation=made.id)
    with pytest.raises(ReservationEnded) as over:
        harness.ask("alice", operation, reservation=made.id, **more)
    assert over.value.details["reason"] == "released"


def test_when_the_operation_is_unknown_then_the_refusal_lists_those_there_are(
    harness: Harness,
) -> None:
    with pytest.raises(UnknownOperation, match="reserve, withdraw, grow, extend, end") as refused:
        harness.ask("alice", "brew")

    assert "reserve" in refused.value.details["operations"]


def test_given_all_devices_serve_then_the_reservation_is_active_and_each_told_once(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    made = harness.reserve(count=2)
    fields = {"reservation": made.id}

    harness.report("w1", "a", DeviceState.SERVING, **fields)
    first = harness.events()
    harness.report("w1", "a", DeviceState.SERVING, **fields)
    repeated = harness.events()
    harness.report("w1", "b", DeviceState.SERVING, **fields)
    last = harness.events()

    assert (first, repeated, last) == (["initialized"], [], ["initialized"])
    listed = harness.ask("alice", "list")["reservations"]
    assert [each["state"] for each in listed] == ["active"]


def test_given_a_released_device_then_it_is_available_only_once_it_reports_so_anew(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    before = harness.reserve(count=1)
    stale = harness.generations["a"]
    harness.ask("alice", "end", reservation=before.id)

    harness.report("w1", "a", DeviceState.READY, generation=stale)
    too_early = harness.ask("bob", "available", kind="pulsecount")
    harness.report("w1", "a", DeviceState.READY)

    assert too_early["available"] == 0
    assert harness.ask("bob", "available", kind="pulsecount")["available"] == 1


def test_given_a_lost_database_when_a_worker_knows_a_higher_generation_then_we_go_beyond(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")

    harness.report("w1", "a", DeviceState.SERVING, generation=41, reservation="forgotten")

    assert harness.published_desired() == {"a": None}
    assert harness.generations["a"] == 42


def test_given_a_board_that_moves_when_held_then_its_hold_follows_it(harness: Harness) -> None:
    harness.worker("w1", "a")
    made = harness.reserve(count=1)
    harness.worker("w2")
    harness.report("w1", "a", DeviceState.ABSENT)
    gone = harness.events()

    state = WorkerState(state=WorkerPhase.READY, session="w2", serials=["a"])
    harness.workers.on_state("w2", state, harness.at)
    harness.report("w2", "a", DeviceState.SERVING, reservation=made.id)

    sent = {str(each.topic): each.message for each in harness.sent}
    assert gone == ["device_failed"]
    assert harness.events() == ["initialized"]
    assert sent["worker/w1/desired/a"] == b""
    assert harness.published_desired() == {"a": made.id}
    listed = harness.ask("alice", "list")["reservations"]
    assert [each["worker"] for each in listed[0]["devices"]] == ["w2"]


def test_given_more_devices_than_fit_a_query_when_observed_then_all_are_recorded(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BATCH", 10)
    serials = {f"d{number:02}" for number in range(35)}
    harness.worker("w1", *sorted(serials))

    harness.run(lambda transaction: device_reports.record_devices(transaction, serials, serials))

    assert harness.published_desired() == dict.fromkeys(serials)
    assert harness.ask("alice", "available", kind="pulsecount")["available"] == 35


def test_given_two_workers_that_claim_one_serial_then_it_stays_where_it_was(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.worker("w2", "a")

    assert [d["worker"] for d in harness.ask("alice", "devices")["devices"]] == ["w1"]


def test_when_due_then_the_holder_is_warned_once_and_then_loses_it(harness: Harness) -> None:
    harness.worker("w1", "a")
    made = harness.reserve(count=1, duration=100)

    def sweep(transaction: Transaction) -> None:
        expiry.do_due(transaction, connected=True)

    harness.now = made.until - timedelta(seconds=10)
    assert (
        harness.run(lambda transaction: expiry.next_due(transaction, connected=True)) == harness.now
    )
    harness.run(sweep)
    warned = harness.events()
    harness.run(sweep)
    again = harness.events()
    harness.now = made.until
    harness.run(sweep)

    assert (warned, again) == (["reservation_ending_soon"], [])
    assert harness.events() == ["reservation_ended"]
    assert harness.published_desired() == {"a": None}
    with pytest.raises(ReservationEnded) as over:
        harness.ask("alice", "end", reservation=made.id)
    assert over.value.details["reason"] == EndReason.EXPIRED


def test_given_an_extension_then_the_holder_is_warned_again(harness: Harness) -> None:
    harness.worker("w1", "a")
    made = harness.reserve(count=1, duration=100)
    harness.now = made.until - timedelta(seconds=5)
    harness.run(lambda transaction: expiry.do_due(transaction, connected=True))

    reply = harness.ask("alice", "extend", reservation=made.id, duration=100)
    until = Reservation.model_validate(reply["reservation"]).until
    harness.now = until - timedelta(seconds=10.5)
    harness.run(lambda transaction: expiry.do_due(transaction, connected=True))

    assert harness.events() == ["reservation_ending_soon"]


def test_given_an_attached_reservation_when_its_client_is_lost_then_it_ends_after_the_grace(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    online = ClientState(state=Presence.ONLINE, session="s")
    harness.clients.on_state("alice", "c", online, harness.at)
    made = harness.reserve(count=1, client="c")

    def sweep(transaction: Transaction) -> None:
        expiry.do_due(transaction, connected=True)

    harness.run(
        lambda transaction: absent_clients.on_presence(transaction, "alice", "c", Presence.LOST)
    )
    harness.now += timedelta(seconds=9)
    harness.run(sweep)
    harness.run(
        lambda transaction: absent_clients.on_presence(transaction, "alice", "c", Presence.ONLINE)
    )
    harness.now += timedelta(seconds=20)
    harness.run(sweep)
    blinked = harness.ask("alice", "list")["reservations"]
    harness.run(
        lambda transaction: absent_clients.on_presence(transaction, "alice", "c", Presence.LOST)
    )
    harness.now += timedelta(seconds=10)
    harness.run(lambda transaction: expiry.do_due(transaction, connected=False))
    unseen = harness.ask("alice", "list")["reservations"]
    harness.run(sweep)

    assert [each["id"] for each in blinked] == [made.id]
    assert [each["id"] for each in unseen] == [made.id]
    row = harness.run(lambda transaction: transaction.session.exec(select(ReservationRow)).one())
    assert row.reason is EndReason.CLIENT_LOST


def test_given_a_second_run_of_a_client_then_what_is_said_of_the_first_does_not_count() -> None:
    clients = Clients()

    heard = [
        clients.on_state("alice", "c", ClientState(state=state, session=session), 0.0)
        for state, session in [
            (Presence.ONLINE, "first"),
            (Presence.ONLINE, "second"),
            (Presence.LOST, "first"),
            (Presence.OFFLINE, "first"),
            (Presence.OFFLINE, "second"),
        ]
    ]

    assert heard == [Presence.ONLINE, Presence.ONLINE, None, None, Presence.OFFLINE]


def test_given_a_schema_that_refers_elsewhere_then_nothing_is_fetched() -> None:
    kind = Kind("x", KindInfo(firmware="f", args={"$ref": "http://127.0.0.1:1/schema"}), "w1")

    with pytest.raises(KindFailed, match="worker w1 gave kind x can't be followed"):
        kind.check({})


@pytest.mark.parametrize("schema", [{"type": "teapot"}, {"properties": 3}])
def test_given_a_kind_without_a_valid_schema_then_it_is_not_offered(schema: Any) -> None:
    with pytest.raises(InvalidRequest, match="no valid schema"):
        Kind("x", KindInfo(firmware="f", args=schema), "w1")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"factor": "x"}, "args of kind x: factor: 'x' is not of type 'integer'"),
        ({"list": [1, "y"]}, "args of kind x: list.1: 'y' is not of type 'integer'"),
        ({"other": 1}, "args of kind x: Additional properties are not allowed"),
    ],
)
def test_given_args_that_a_kind_does_not_take_then_the_refusal_names_them_as_users_do(
    args: dict[str, Any], told: str
) -> None:
    schema = {
        "properties": {
            "factor": {"type": "integer"},
            "list": {"items": {"type": "integer"}},
        },
        "additionalProperties": False,
    }
    with pytest.raises(InvalidRequest) as caught:
        Kind("x", KindInfo(firmware="f", args=schema), "w1").check(args)
    assert caught.value.message.startswith(told)
