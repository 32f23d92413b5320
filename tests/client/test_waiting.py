"""Standing in the queue, with a scripted control: told of every place, cancelled by leaving."""

from __future__ import annotations

import queue
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from icebus.client import PulseCountClient, Waiting
from icebus.client._reservation import wait_log
from icebus.schemas.errors import (
    DeviceUnavailable,
    NotEnoughDevices,
    ReservationEnded,
    ReservationQueued,
)
from icebus.schemas.message import now
from icebus.schemas.operations.reservations import EndReason, HoldState, Queue

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl

    from icebus.broker.embedded import EmbeddedBroker

SECOND = Queue(position=2, reason="2 of 3 devices are held by bob", estimate=now())
FIRST = SECOND.model_copy(update={"position": 1})

Told = queue.SimpleQueue[Waiting]


@pytest.fixture
def told(alice: PulseCountClient, control: ScriptedControl) -> Told:
    """What alice is told of her place; the queue is as long as can be."""
    control.queue = SECOND
    waiting: Told = queue.SimpleQueue()
    alice.on("queued")(waiting.put)
    return waiting


class OnceQueued:
    """Acts on the one reservation once alice has been told that it is queued."""

    def __init__(self, control: ScriptedControl, told: Told, then: object) -> None:
        self._control = control
        self._told = told
        self._then = then
        self.places: list[tuple[int, str]] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        place = self._told.get(timeout=10)
        self.places.append((place.position, place.reason))
        # She asks whether it lives once she would hear of its end.
        self._control.requests.wait(lambda seen: "list" in [name for name, _ in seen])
        assert callable(self._then)
        self._then(place.reservation)

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


def test_given_devices_that_others_hold_when_waiting_then_each_place_is_told_until_they_come(
    alice: PulseCountClient, control: ScriptedControl, told: Told
) -> None:
    def move_up_and_give(reservation: str) -> None:
        control.change(reservation, queue=FIRST)
        assert told.get(timeout=10).position == 1
        control.give(reservation, "d1", "d3")

    once_queued = OnceQueued(control, told, move_up_and_give)
    with alice.reserve(2, wait=60, priority=5, replace=True, selector="rack=b") as boards:
        once_queued.join()
        assert boards.serials == ["d1", "d3"]
        assert once_queued.places == [(2, SECOND.reason)]
    _, args = control.requests.seen[0]
    asked = {name: args[name] for name in ("wait", "priority", "replace", "selector")}
    assert asked == {"wait": 60, "priority": 5, "replace": True, "selector": "rack=b"}
    assert control.reservations == {}


@pytest.mark.parametrize(
    ("wanted", "error"),
    [({"count": 2}, NotEnoughDevices), ({"serials": ["d1"]}, DeviceUnavailable)],
)
def test_given_too_few_devices_when_the_wait_is_over_then_the_error_tells_what_was_waited_for(
    alice: PulseCountClient,
    control: ScriptedControl,
    told: Told,
    wanted: dict[str, object],
    error: type[Exception],
) -> None:
    once_queued = OnceQueued(control, told, lambda name: control.end(name, EndReason.NOT_IN_TIME))
    with pytest.raises(error, match=r"waited 60 s for .* in vain: 2 of 3 devices are held by bob"):
        alice.reserve(**wanted, wait=60)  # type: ignore[arg-type]
    once_queued.join()


def test_given_a_wait_that_is_over_before_we_listen_then_it_was_in_vain_all_the_same(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    wait = 1.0
    control.queue = SECOND

    def end_unheard(operation: str) -> None:
        # She asks whether it lives, for what was told before she listened is lost.
        if operation == "list":
            threading.Event().wait(wait)
            control.reservations.clear()

    control.before = end_unheard
    with pytest.raises(NotEnoughDevices, match="waited 1 s for 2 devices in vain"):
        alice.reserve(2, wait=wait)


def test_given_an_admin_who_ends_it_when_waiting_then_that_is_the_reason(
    alice: PulseCountClient, control: ScriptedControl, told: Told
) -> None:
    once_queued = OnceQueued(
        control, told, lambda name: control.end(name, EndReason.ENDED_BY_ADMIN)
    )
    with pytest.raises(ReservationEnded, match="ended by admin"):
        alice.reserve(2, wait=60)
    once_queued.join()


def test_given_ctrl_c_when_waiting_then_the_place_is_given_up(
    alice: PulseCountClient, control: ScriptedControl, told: Told
) -> None:
    main = threading.main_thread().ident
    assert main is not None
    once_queued = OnceQueued(control, told, lambda _name: signal.pthread_kill(main, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        alice.reserve(2, wait=60, detached=True)
    once_queued.join()
    assert control.reservations == {}
    control.requests.wait(lambda seen: [name for name, _ in seen][-1:] == ["end"])


def test_given_a_short_duration_when_it_has_waited_long_then_its_time_begins_with_its_devices(
    alice: PulseCountClient, control: ScriptedControl, told: Told
) -> None:
    once_queued = OnceQueued(control, told, lambda name: control.give(name, "d1", seconds=1))
    with alice.reserve(1, wait=60, duration=1):
        once_queued.join()
        control.requests.wait(lambda seen: "extend" in [name for name, _ in seen])
    extended = [args["duration"] for name, args in control.requests.seen if name == "extend"]
    assert extended[0] == pytest.approx(0.5)


def test_given_a_reservation_that_waits_when_attaching_then_it_says_so_unless_it_need_not_be_ready(
    alice: PulseCountClient, control: ScriptedControl, broker: EmbeddedBroker
) -> None:
    control.queue = SECOND
    made = control.make("alice", {"kind": "pulsecount", "count": 1, "wait": 60, "duration": 60})
    control.publish(made)
    with pytest.raises(ReservationQueued, match="position 2"):
        alice.attach(made.id, timeout=0.3)
    held = alice.attach(made.id, ready=False)
    assert held.serials == []
    assert held.waiting is not None
    held.release()
    assert control.reservations == {}


def test_given_a_reservation_without_devices_yet_when_evaluating_then_it_says_what_it_waits_for(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    control.queue = SECOND
    made = control.make("alice", {"kind": "pulsecount", "count": 1, "wait": 60})
    control.publish(made)

    boards = alice.attach(made.id, ready=False)

    with pytest.raises(ReservationQueued, match="at position 2"):
        boards.evaluate([b""])


def test_given_nobody_who_listens_when_waiting_then_the_log_says_what_for_and_what_changed(
    alice: PulseCountClient,
    control: ScriptedControl,
    told: Told,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wait_log, "FIRST", 0.01)
    monkeypatch.setattr(wait_log, "AGAIN", 0.02)
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    monkeypatch.setattr(wait_log.log, "warning", lambda form, text: said.put(form % text))

    def move_up_and_give(reservation: str) -> None:
        assert "1 request before it: 2 of 3 devices are held by bob" in said.get(timeout=10)
        control.change(reservation, queue=FIRST)
        assert "0 requests before it" in said.get(timeout=10)
        control.state = HoldState.PREPARING
        control.give(reservation, "d1")
        assert f"{reservation} waits until d1 is ready" in said.get(timeout=10)
        control.set(reservation, HoldState.SERVING)

    once_queued = OnceQueued(control, told, move_up_and_give)
    with alice.reserve(1, wait=60):
        once_queued.join()
    assert said.empty()
