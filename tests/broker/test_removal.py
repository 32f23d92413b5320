"""``icebus-broker remove`` on a standing broker with TLS: it says what ends, and when it has."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.broker.standing import directory_with_tls

from icebus.broker.access import Principal
from icebus.broker.cli import removal
from icebus.broker.cli.running import StandingBroker
from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.service.service import BrokerService
from icebus.bus import Bus, Incoming, wait_for
from icebus.schemas.components import ClientState, Presence, Principals, WorkerPhase, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import NotAuthorized, UnknownPrincipal
from icebus.schemas.ids import BROKER
from icebus.schemas.message import decode, now
from icebus.schemas.operations.offers import Offer
from icebus.schemas.operations.reservations import (
    HeldDevice,
    HoldState,
    Reservation,
    ReservationState,
)
from icebus.schemas.topics import CLIENT_STATE, PRINCIPALS, RESERVATION, WORKER_STATE, Role

pytestmark = pytest.mark.usefixtures("mosquitto")

PEOPLE = [
    Principal(id="main", role=Role.CONTROL),
    Principal(id="alice", role=Role.USER),
    Principal(id="bob", role=Role.USER),
]


def soon() -> Deadline:
    return Deadline.after(15)


@pytest.fixture
def files(tmp_path: Path) -> BrokerDirectory:
    return directory_with_tls(tmp_path / "broker", PEOPLE)


def reservation(id_: str, user: str, offered_to: str | None = None) -> Reservation:
    held = HeldDevice(serial="d1", worker="w1", state=HoldState.SERVING)
    return Reservation(
        id=id_,
        user=user,
        kind="pulsecount",
        state=ReservationState.ACTIVE,
        devices=[held],
        created=now(),
        until=now() + timedelta(hours=1),
        offer=None if offered_to is None else Offer(to=offered_to, until=now()),
    )


@pytest.fixture
def control(files: BrokerDirectory, minded: StandingBroker) -> Iterator[Bus]:
    """Control, as far as it has to do with this."""
    principal = files.principals["main"]
    bus = Bus(files.address_of(principal, files.issue("main")), "main")
    bus.connect(soon())
    for made in (
        reservation("r1", "alice"),
        reservation("r2", "bob", offered_to="alice"),
        reservation("r3", "bob"),
    ):
        wait_for(bus.publish(RESERVATION(reservation=made.id), made), soon(), "the broker")
    yield bus
    bus.close(Deadline.after(1))


def test_given_somebody_who_has_something_when_removed_then_it_is_named_and_its_end_waited_for(
    files: BrokerDirectory, control: Bus, capsys: pytest.CaptureFixture[str]
) -> None:
    def compare(incoming: Incoming) -> None:
        known = {each.id for each in decode(Principals, incoming.payload).principals}
        if "alice" not in known:
            control.clear(RESERVATION(reservation="r1"))
            control.publish(RESERVATION(reservation="r2"), reservation("r2", "bob"))

    control.subscribe(PRINCIPALS, compare)
    alice = Bus(files.address_of(files.principals["alice"]), "alice")
    alice.connect(soon())
    try:
        state = ClientState(state=Presence.ONLINE, session="s")
        said = alice.publish(CLIENT_STATE(user="alice", client="c1"), state, interval=600)
        wait_for(said, soon(), "the broker")

        removal.remove(files, "alice")

        told = capsys.readouterr()
        assert told.out == "alice removed\n"
        assert told.err.splitlines() == [
            "1 reservation: r1 (pulsecount) of d1",
            "1 offer made to them: r2 of bob",
            "1 connected client",
            "all of that has ended",
        ]
        with pytest.raises(NotAuthorized):
            Bus(alice.address, "alice").connect(Deadline.after(3))
    finally:
        alice.close(Deadline.after(1))


@pytest.mark.usefixtures("control")
def test_given_a_control_that_hears_nothing_when_somebody_is_removed_then_that_is_said(
    files: BrokerDirectory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(removal, "END_TIMEOUT", 0.1)
    removal.remove(files, "alice")
    assert "control has not ended that yet" in capsys.readouterr().err
    assert "alice" not in files.principals


@pytest.mark.usefixtures("standing")
def test_given_somebody_who_has_nothing_when_removed_then_that_is_said(
    files: BrokerDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    removal.remove(files, "alice")
    assert capsys.readouterr().err == "they had nothing\n"
    with pytest.raises(UnknownPrincipal):
        removal.remove(files, "alice")


def test_given_a_broker_that_is_down_when_somebody_is_removed_then_it_says_when_the_rest_ends(
    files: BrokerDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    removal.remove(files, "alice")
    assert "once the broker, its service and control run" in capsys.readouterr().err
    assert "alice" not in files.principals


def test_given_a_broker_whose_service_is_down_when_somebody_is_removed_then_all_ends_once_it_is_up(
    files: BrokerDirectory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = files.settings
    assert settings is not None
    broker = EmbeddedBroker(files.path, [], port=settings.port, tls=settings.tls)
    broker.start(soon())
    service = BrokerService(files, broker.address(BROKER))
    main = Bus(files.address_of(files.principals["main"], files.issue("main")), "main")
    alice = Bus(files.address_of(files.principals["alice"]), "alice")
    try:
        main.connect(soon())
        alice.connect(soon())
        held = reservation("r1", "alice")
        wait_for(main.publish(RESERVATION(reservation="r1"), held), soon(), "the broker")
        told, ended = threading.Event(), threading.Event()

        def compare(incoming: Incoming) -> None:
            known = {each.id for each in decode(Principals, incoming.payload).principals}
            if "alice" not in known:
                main.clear(RESERVATION(reservation="r1"))
                told.set()

        def look(incoming: Incoming) -> None:
            if not incoming.payload:
                ended.set()

        main.subscribe(PRINCIPALS, compare)
        main.subscribe(RESERVATION, look)
        monkeypatch.setattr(removal, "END_TIMEOUT", 0.1)
        removal.remove(files, "alice")

        said = capsys.readouterr().err
        assert "1 reservation: r1 (pulsecount) of d1" in said
        assert "control has not ended that yet" in said
        with pytest.raises(NotAuthorized):
            Bus(alice.address, "alice").connect(Deadline.after(3))
        assert not told.is_set()

        service.start()

        assert ended.wait(15), "control has heard of it, and has ended what she had"
    finally:
        alice.close(Deadline.after(1))
        main.close(Deadline.after(1))
        service.stop(soon())
        broker.stop(soon())


@pytest.mark.usefixtures("standing")
def test_given_a_worker_that_was_retired_first_when_removed_then_it_had_nothing(
    files: BrokerDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    files.add_principals([Principal(id="w1", role=Role.WORKER)])
    w1 = Bus(files.address_of(files.principals["w1"], files.issue("w1")), "w1")
    w1.connect(soon())
    state = WorkerState(state=WorkerPhase.READY, session="s1", serials=["d1"])
    wait_for(w1.publish(WORKER_STATE(worker="w1"), state), soon(), "the broker")
    wait_for(w1.clear(WORKER_STATE(worker="w1")), soon(), "the broker")
    w1.close(Deadline.after(1))

    removal.remove(files, "w1")

    assert capsys.readouterr().err == "they had nothing\n"
    assert "w1" not in files.principals
