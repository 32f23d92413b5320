"""Reserving, waiting, keeping alive, attaching and letting go, with a scripted control."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.client.background import in_background

from icebus.client import Client, EventHandler, PulseCountClient, ReceivedEvent
from icebus.schemas.components import ClientState, Presence
from icebus.schemas.errors import (
    DeadlineExceeded,
    DeviceFailed,
    DeviceNotHeld,
    DeviceUnavailable,
    IcebusError,
    InternalError,
    InvalidRequest,
    NotAuthorized,
    NotEnoughDevices,
    ReservationEnded,
    UnknownReservation,
)
from icebus.schemas.measuring import Acknowledged
from icebus.schemas.message import decode, now
from icebus.schemas.operations.reservations import (
    DeviceFailedEvent,
    Ended,
    EndingSoon,
    EndReason,
    HoldState,
    Initialized,
    Queue,
)

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl
    from tests.client.scripted_worker import ScriptedWorker

    from icebus.broker.embedded import EmbeddedBroker


def operations(control: ScriptedControl) -> list[str]:
    return [name for name, _ in control.requests.seen]


def test_given_a_client_when_it_lives_and_leaves_then_its_presence_says_so(
    broker: EmbeddedBroker, control: ScriptedControl
) -> None:
    with PulseCountClient(broker.address("alice").url()) as client:
        control.clients.wait(lambda seen: len(seen) >= 1)
        mine = client.id
    seen = control.clients.wait(lambda seen: state_of(seen[-1][1]) is Presence.OFFLINE)
    assert state_of(seen[0][1]) is Presence.ONLINE
    assert {(ids["user"], ids["client"]) for ids, _ in seen} == {("alice", mine)}


def state_of(payload: bytes) -> Presence:
    return decode(ClientState, payload).state


def test_given_a_wrong_password_when_connecting_then_it_is_refused(broker: EmbeddedBroker) -> None:
    with pytest.raises(NotAuthorized):
        PulseCountClient(broker.address("alice").as_user("alice", "wrong").url())


def test_given_devices_that_prepare_when_reserving_then_it_waits_for_each(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    told: list[Initialized] = []
    alice.on("initialized")(told.append)
    control.state = HoldState.PREPARING

    def prepare() -> None:
        control.requests.wait(lambda seen: len(seen) == 1)
        reservation = next(iter(control.reservations))
        control.emit(
            reservation, "d1", "initialized", Initialized(reservation=reservation, serial="d1")
        )
        control.set(reservation, HoldState.SERVING)

    preparing = threading.Thread(target=prepare)
    preparing.start()
    with alice.reserve(2) as boards:
        preparing.join(5)
        assert boards.serials == ["d1", "d2"]
        assert boards.attached
    alice.close()
    assert sorted(event.serial for event in told) == ["d1", "d2"]
    assert operations(control) == ["reserve", "end"]


def test_given_a_device_that_can_not_be_prepared_when_reserving_then_all_is_released(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    control.state = HoldState.FAILED
    with pytest.raises(DeviceFailed):
        alice.reserve(1)
    assert control.reservations == {}


def test_given_a_device_that_is_never_ready_when_reserving_then_the_deadline_releases_it(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    control.state = HoldState.PREPARING
    with pytest.raises(DeadlineExceeded, match="d1"):
        alice.reserve(1, timeout=0.5)
    assert control.reservations == {}


def test_given_an_answer_that_leaves_it_open_when_reserving_then_the_request_is_withdrawn(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    control.refuse = [InternalError("control's database does not answer")]
    with pytest.raises(InternalError):
        alice.reserve(1)
    seen = control.requests.wait(lambda seen: len(seen) == 2)
    assert [name for name, _ in seen] == ["reserve", "withdraw"]


def test_given_ctrl_c_before_the_answer_when_reserving_then_the_request_is_withdrawn(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    main = threading.main_thread().ident
    assert main is not None
    control.before = lambda operation: (
        signal.pthread_kill(main, signal.SIGINT) if operation == "reserve" else None
    )
    with pytest.raises(KeyboardInterrupt):
        alice.reserve(1)
    control.requests.wait(lambda seen: "withdraw" in [name for name, _ in seen])


def test_given_a_refusal_when_reserving_then_the_same_error_is_raised(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    control.refuse = [NotEnoughDevices("9 wanted, 2 available", wanted=9, available=2)]
    with pytest.raises(NotEnoughDevices) as caught:
        alice.reserve(9)
    assert caught.value.details == {"wanted": 9, "available": 2}


SOON: list[IcebusError] = [
    NotEnoughDevices("2 wanted", wanted=2, available=1, soon=True),
    DeviceUnavailable("d2 is not ready yet", soon=True),
]
NEVER: list[IcebusError] = [
    NotEnoughDevices("2 wanted", wanted=2, available=1, soon=False),
    DeviceUnavailable("d2 is not to be had"),
]


@pytest.mark.parametrize("refusal", SOON)
def test_given_boards_being_let_go_when_reserving_then_it_waits_for_them(
    alice: PulseCountClient, control: ScriptedControl, refusal: IcebusError
) -> None:
    control.refuse = [refusal]
    control.queue = Queue(position=1, reason="d2 is being let go")

    def give() -> None:
        seen = control.requests.wait(lambda seen: "list" in [name for name, _ in seen])
        assert [args["wait"] > 0 for name, args in seen if name == "reserve"] == [False, True]
        control.give(next(iter(control.reservations)), "d2")

    with in_background(give), alice.reserve(serials=["d2"]) as boards:
        assert boards.serials == ["d2"]


@pytest.mark.parametrize("refusal", NEVER)
def test_given_boards_that_will_not_be_free_when_reserving_then_it_is_refused_at_once(
    alice: PulseCountClient, control: ScriptedControl, refusal: IcebusError
) -> None:
    control.refuse = [refusal]
    with pytest.raises(type(refusal)):
        alice.reserve(2)
    assert control.reservations == {}


@pytest.mark.parametrize(
    "wrong",
    [{"count": 0}, {"count": 1, "serials": ["d1"]}, {"serials": ["not a serial"]}, {"duration": 0}],
)
def test_given_nonsense_when_reserving_then_it_is_refused_before_it_is_sent(
    alice: PulseCountClient, control: ScriptedControl, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest):
        alice.reserve(**wrong)
    assert operations(control) == []


def test_given_ctrl_c_while_preparing_when_reserving_then_nothing_stays_reserved(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    control.state = HoldState.PREPARING
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        control.requests.wait(lambda seen: len(seen) == 1)
        signal.pthread_kill(main, signal.SIGINT)

    with in_background(interrupt), pytest.raises(KeyboardInterrupt):
        alice.reserve(1, detached=True)
    assert control.reservations == {}


def test_given_a_detached_reservation_when_the_block_ends_then_it_lives_on_and_is_found_again(
    alice: PulseCountClient, control: ScriptedControl, broker: EmbeddedBroker
) -> None:
    with alice.reserve(1, detached=True) as boards:
        pass
    assert list(control.reservations) == [boards.id]
    with PulseCountClient(broker.address("alice").url()) as other:
        with other.attach(boards.id) as again:
            assert again.serials == boards.serials
            assert not again.attached
        assert list(control.reservations) == [boards.id]
        again.release()
        again.release()
    assert control.reservations == {}


def test_given_somebody_else_s_reservation_when_attaching_then_it_is_unknown(
    alice: PulseCountClient, control: ScriptedControl, broker: EmbeddedBroker
) -> None:
    with alice.reserve(1) as boards, PulseCountClient(broker.address("bob").url()) as bob:
        with pytest.raises(UnknownReservation):
            bob.attach(boards.id)
        with pytest.raises(InvalidRequest):
            bob.attach("no id at all")


def test_given_an_open_reservation_when_the_client_closes_then_it_is_released(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    alice.reserve(1)
    alice.close()
    assert control.reservations == {}


def test_given_a_short_reservation_when_time_passes_then_it_is_extended_again_and_again(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    with alice.reserve(1, duration=1):
        control.requests.wait(lambda seen: [name for name, _ in seen].count("extend") >= 3)
    (before, *_) = [args for name, args in control.requests.seen if name == "extend"]
    assert before["duration"] == pytest.approx(0.5)


def test_given_a_reservation_that_is_gone_when_it_is_extended_then_it_has_ended(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    with alice.reserve(1, duration=1) as boards:
        del control.reservations[boards.id]
        control.requests.wait(lambda seen: "extend" in [name for name, _ in seen])
        until = time.monotonic() + 5
        while boards.ended is None and time.monotonic() < until:
            threading.Event().wait(0.01)
        assert isinstance(boards.ended, ReservationEnded)


def test_given_an_extension_by_hand_when_asked_then_the_end_moves(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    with alice.reserve(1, duration=100) as boards:
        before = boards.document.until
        boards.extend(50)
        assert (boards.document.until - before).total_seconds() == 50
        assert (alice.extend(boards.id, 10).until - before).total_seconds() == 60
        with pytest.raises(InvalidRequest):
            boards.extend(-1)


def test_given_an_answer_that_was_overtaken_when_it_comes_then_what_is_newer_stays(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    with alice.reserve(1, duration=100) as boards:
        control.on_extended = lambda name: control.set(name, HoldState.FAILED, "unplugged")
        boards.extend(50)
        assert boards.device("d1").state is HoldState.FAILED


def test_given_events_of_control_when_they_come_twice_then_handlers_are_told_once(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    class Handler(EventHandler):
        def __init__(self) -> None:
            self.told: list[object] = []

        def reservation_ending_soon(self, ending: EndingSoon) -> None:
            self.told.append(ending)

        def reservation_ended(self, ended: Ended) -> None:
            self.told.append(ended)

        def device_failed(self, failed: DeviceFailedEvent) -> None:
            self.told.append(failed)

    handler = Handler()
    alice.register(handler)
    boards = alice.reserve(1)
    soon = EndingSoon(reservation=boards.id, until=now())
    failed = DeviceFailedEvent(
        reservation=boards.id, serial="d1", code="device_failed", reason="smoke"
    )
    ended = Ended(reservation=boards.id, reason=EndReason.EXPIRED)
    control.emit(boards.id, "all", "reservation_ending_soon", soon)
    control.emit(boards.id, "d1", "device_failed", failed)
    control.emit(boards.id, "all", "reservation_ended", ended)
    control.emit(boards.id, "all", "reservation_ended", ended)
    control.end(boards.id)
    until = time.monotonic() + 5
    while len(handler.told) < 3 and time.monotonic() < until:
        threading.Event().wait(0.01)
    alice.close()
    assert handler.told == [soon, failed, ended]
    assert boards.ended is not None
    assert boards.ended.details["reason"] == "expired"


def test_given_a_misspelt_event_when_registering_then_the_names_there_are_are_told(
    alice: PulseCountClient,
) -> None:
    with pytest.raises(InvalidRequest, match="results"):
        alice.on("result")

    @alice.on("results")
    def show(result: object) -> str:
        return "unchanged"

    assert show(None) == "unchanged"


def test_given_another_kind_when_using_the_base_client_then_calls_and_events_are_plain(
    broker: EmbeddedBroker, control: ScriptedControl, w1: ScriptedWorker, w2: ScriptedWorker
) -> None:
    told = threading.Event()
    events: list[ReceivedEvent] = []
    with Client(broker.address("alice").url()) as client:

        @client.on("blinked")
        def remember(event: ReceivedEvent) -> None:
            events.append(event)
            told.set()

        with client.reserve(3, kind="blinker") as held:
            answers = client.call(held, None, "blink", {"times": 3})
            assert answers.results == {"d1": "blink", "d2": "blink", "d3": "blink"}
            assert [call.serials for _, call in w1.calls.seen] == [["d1", "d3"]]
            assert [call.serials for _, call in w2.calls.seen] == [["d2"]]
            (_, call) = w1.calls.seen[0]
            w1.emit(call, "d1", "blinked", Acknowledged(forgotten=1))
            assert told.wait(5)
            with pytest.raises(DeviceNotHeld):
                client.call(held, ["d9"], "blink")
            with pytest.raises(InvalidRequest):
                client.call(held, [], "blink")
    assert (events[0].name, events[0].serial, events[0].sender) == ("blinked", "d1", "w1")
    assert events[0].data == {"forgotten": 1}
