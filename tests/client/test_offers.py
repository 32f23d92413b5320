"""Reservations that are offered to another user, as both clients see it."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

import pytest
from tests.connections import eventually

from icebus.client import Client, EventHandler, PulseCountClient
from icebus.schemas.errors import InvalidRequest, UnknownReservation
from icebus.schemas.operations.offers import Offered, OfferEnd, OfferEnded, Transferred

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl

    from icebus.broker.embedded import EmbeddedBroker

__all__ = ["eventually"]


def test_given_a_reservation_that_is_offered_when_accepted_then_it_is_over_for_who_had_it(
    alice: PulseCountClient, control: ScriptedControl, broker: EmbeddedBroker, eventually: Any
) -> None:
    told: list[Transferred] = []
    alice.on("transferred")(told.append)
    with alice.reserve(1) as boards:
        boards.transfer("bob")
        assert boards.ended is None
        assert not boards.attached
        assert boards.document.offer is not None
        with PulseCountClient(broker.address("bob").url()) as bob:
            assert [each.id for each in bob.offers()] == [boards.id]
            his = bob.accept(boards.id)
            assert not his.attached
            assert bob.offers() == []
        gone = Transferred(reservation=boards.id, user="bob")
        control.emit(boards.id, "all", "transferred", gone)
        eventually(lambda: boards.ended is not None)
        assert "given to bob" in str(boards.ended)
    assert list(control.reservations) == [boards.id], "it was not the former user's to end"
    with pytest.raises(UnknownReservation):
        alice.attach(boards.id)
    alice.close()
    assert told in ([gone], [])  # it may have come after we let go


def test_given_an_offer_when_withdrawn_or_declined_then_it_goes_on_for_who_has_it(
    alice: PulseCountClient, control: ScriptedControl, broker: EmbeddedBroker
) -> None:
    with alice.reserve(1, detached=True) as boards:
        boards.transfer("bob")
        boards.transfer(None)
        assert boards.document.offer is None
        boards.transfer("bob")
        with PulseCountClient(broker.address("bob").url()) as bob:
            assert bob.decline(boards.id).offer is None
        assert boards.ended is None


def test_given_a_handler_for_offers_when_something_is_offered_then_it_is_told_once(
    control: ScriptedControl, broker: EmbeddedBroker
) -> None:
    heard: queue.SimpleQueue[object] = queue.SimpleQueue()

    class Takes(EventHandler):
        def offered(self, offered: Offered) -> None:
            heard.put(offered)

    with Client(broker.address("bob").url(), handlers=[Takes()]) as bob:
        bob.on("offer_ended")(heard.put)
        listening = bob.survey()  # the broker has taken in what was subscribed to before
        assert not listening.reservations
        made = control.make("alice", {"count": 1, "kind": "pulsecount", "duration": 60})
        control.publish(made)
        offered = Offered(
            reservation=made.id, user="alice", kind=made.kind, devices=1, until=made.until
        )
        ended = OfferEnded(reservation=made.id, user="bob", reason=OfferEnd.WITHDRAWN)
        control.emit(made.id, "all", "offered", offered, user="bob")
        control.emit(made.id, "all", "offer_ended", ended, user="bob")
        assert heard.get(timeout=10) == offered
        assert heard.get(timeout=10) == ended


def test_given_an_offer_of_another_kind_when_accepted_then_refused_before_it_is_taken(
    alice: PulseCountClient, control: ScriptedControl, broker: EmbeddedBroker
) -> None:
    made = control.make("alice", {"count": 1, "kind": "variance", "duration": 60})
    control.publish(made)
    alice.transfer(made.id, "bob")
    with PulseCountClient(broker.address("bob").url()) as bob:
        with pytest.raises(InvalidRequest, match="is for variance, not pulsecount"):
            bob.accept(made.id)
        assert control.reservations[made.id].user == "alice"
