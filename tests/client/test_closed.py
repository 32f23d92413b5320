"""A client that is closed: whatever is asked of it is refused at once, with what to do instead."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from icebus.bus import Answer
from icebus.client import Admin, Boards, EventHandler, Failure, PulseCountClient
from icebus.client._connection import operations
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable, ClientClosed, DeadlineExceeded
from icebus.schemas.operations.reservations import ListArgs, ReservationsReply

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl
    from tests.client.scripted_worker import ScriptedWorker

    from icebus.broker.embedded import EmbeddedBroker

FACTS = {"boards", "events", "observes", "id", "kind", "result", "summary", "user"}
"""Of a client, which stay true."""

BOARDS_FACTS = {
    "lost",
    "attached",
    "closed",
    "device",
    "document",
    "ended",
    "extended",
    "kind",
    "problem",
    "serials",
    "serves",
    "summary",
    "waiting",
}
"""What a reservation knows without asking anybody."""

INTERNAL = {
    "on_device_replaced",
    "on_devices_lost",
    "on_devices_serve",
    "on_kind_event",
    "start",
}
"""Of a reservation, for kinds to override and for its client to call."""

OUTCOME = Failure(
    serial="d1",
    evaluation="e",
    batch="b",
    bitstream="a.bin",
    sha256="0" * 64,
    at=datetime.now(UTC),
    error=ClientClosed("why"),
)

Calls = dict[str, Callable[[Any], object]]

SESSION: Calls = {
    "available": lambda client: client.available("pulsecount"),
    "devices": lambda client: client.devices(),
    "history": lambda client: client.history(),
    "logs": lambda client: client.logs(),
    "on": lambda client: client.on("results"),
    "register": lambda client: client.register(EventHandler()),
    "reservations": lambda client: client.reservations(),
    "watch": lambda client: client.watch(),
}
CLIENT: Calls = {
    **SESSION,
    "accept": lambda client: client.accept("r"),
    "attach": lambda client: client.attach("r"),
    "decline": lambda client: client.decline("r"),
    "limits": lambda client: client.limits(),
    "offers": lambda client: client.offers(),
    "end": lambda client: client.end("r"),
    "extend": lambda client: client.extend("r", 60),
    "kinds": lambda client: client.kinds(),
    "reboot": lambda client: client.reboot("r"),
    "reserve": lambda client: client.reserve(),
    "survey": lambda client: client.survey(),
    "transfer": lambda client: client.transfer("r", "bob"),
}
ADMIN: Calls = {
    **SESSION,
    "drain": lambda admin: admin.drain("w1"),
    "end": lambda admin: admin.end("r"),
    "forget": lambda admin: admin.forget(["d1"]),
    "move": lambda admin: admin.move(["d1"], "w1"),
    "quarantine": lambda admin: admin.quarantine(["d1"], "why"),
    "reboot": lambda admin: admin.reboot(["d1"]),
    "reflash": lambda admin: admin.reflash(["d1"]),
    "retire": lambda admin: admin.retire("w1"),
    "undrain": lambda admin: admin.undrain("w1"),
    "unquarantine": lambda admin: admin.unquarantine(["d1"]),
}
BOARDS: Calls = {
    "acknowledge": lambda boards: boards.acknowledge(OUTCOME),
    "collect": lambda boards: list(boards.collect()),
    "evaluate": lambda boards: boards.evaluate([b""]),
    "grow": lambda boards: boards.grow(1),
    "evaluate_outcomes": lambda boards: boards.evaluate_outcomes([b""]),
    "extend": lambda boards: boards.extend(60),
    "map": lambda boards: boards.map([b""]),
    "map_outcomes": lambda boards: boards.map_outcomes([b""]),
    "outcomes": lambda boards: boards.outcomes([b""]),
    "reboot": lambda boards: boards.reboot(),
    "release": lambda boards: boards.release(),
    "transfer": lambda boards: boards.transfer("bob"),
    "wait_given": lambda boards: boards.wait_given(Deadline.after(30)),
    "wait_ready": lambda boards: boards.wait_ready(Deadline.after(30)),
}


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def refused(call: Callable[[], object]) -> None:
    began = time.monotonic()
    with pytest.raises(ClientClosed, match="make a new one") as caught:
        call()
    assert time.monotonic() - began < 10
    assert isinstance(caught.value, BrokerUnavailable)
    assert caught.value.code == "client_closed"


def test_given_the_public_methods_then_all_of_them_are_tried_here() -> None:
    assert set(CLIENT) | FACTS | {"call", "close"} == public(PulseCountClient)
    assert set(ADMIN) | FACTS - {"boards", "result"} | {"close"} == public(Admin)
    assert set(BOARDS) | BOARDS_FACTS | INTERNAL | {"close"} == public(Boards)


@pytest.mark.parametrize("name", CLIENT)
def test_given_a_closed_client_when_it_is_asked_then_it_refuses_at_once(
    alice: PulseCountClient, name: str
) -> None:
    alice.close()
    refused(lambda: CLIENT[name](alice))


@pytest.mark.parametrize("name", ADMIN)
def test_given_a_closed_admin_when_it_is_asked_then_it_refuses_at_once(
    broker: EmbeddedBroker, name: str
) -> None:
    admin = Admin(broker.address("root").url())
    admin.close()
    refused(lambda: ADMIN[name](admin))


@pytest.mark.parametrize("name", [*BOARDS, "call"])
def test_given_a_closed_client_when_what_it_has_reserved_is_used_then_it_refuses_at_once(
    alice: PulseCountClient, w1: ScriptedWorker, name: str
) -> None:
    boards = alice.reserve(serials=["d1"], detached=True)
    alice.close()
    calls: Calls = {**BOARDS, "call": lambda boards: alice.call(boards, None, "status")}
    refused(lambda: calls[name](boards))


def test_given_a_closed_client_then_closing_and_releasing_what_ended_with_it_are_no_errors(
    alice: PulseCountClient, w1: ScriptedWorker
) -> None:
    boards = alice.reserve(serials=["d1"])
    alice.close()
    alice.close()
    boards.release()
    boards.close()
    assert boards.ended is not None
    assert (alice.user, alice.kind) == ("alice", "pulsecount")


def test_when_closed_while_something_is_asked_then_it_fails_at_once(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    control.close()
    answer = asked(alice, seconds=30)
    alice.close()
    with pytest.raises(ClientClosed, match="before an answer"):
        answer.result(timeout=10)


@pytest.mark.parametrize("seconds", [0.3, 3.0])
def test_given_the_broker_is_away_when_asked_then_the_deadline_ends_it_and_says_so(
    broker: EmbeddedBroker, alice: PulseCountClient, seconds: float
) -> None:
    broker.stop(Deadline.after(5))
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="the broker is away"):
        alice.devices(timeout=seconds)
    assert seconds <= time.monotonic() - began < seconds + 10


def test_given_no_time_left_when_asked_then_that_is_the_error(alice: PulseCountClient) -> None:
    with pytest.raises(DeadlineExceeded, match="no time left"):
        alice.devices(timeout=0)


def asked(client: PulseCountClient, seconds: float) -> Answer[ReservationsReply]:
    """A request under way."""
    deadline = Deadline.after(seconds)
    return operations.send(client._connection, "list", ListArgs(), ReservationsReply, deadline)
