"""Which of a user's reservations a command uses when none is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
import typer

from icebus.client import GenericMeasuringClient
from icebus.client.cli.commands.evaluating.measuring import BoardRequest, holding
from icebus.client.cli.commands.reserving.reservations import chosen_reservation
from icebus.schemas.message import now
from icebus.schemas.operations.reservations import (
    HeldDevice,
    HoldState,
    Queue,
    Reservation,
    ReservationState,
)


def reservation(name: str, *serials: str, kind: str = "pulsecount") -> Reservation:
    """One that holds these boards; without any it waits for some."""
    return Reservation(
        id=name,
        user="ann",
        kind=kind,
        state=ReservationState.ACTIVE if serials else ReservationState.QUEUED,
        created=now(),
        until=now() + timedelta(hours=1),
        queue=None if serials else Queue(position=1, reason="2 wanted, 0 free"),
        devices=[HeldDevice(serial=each, worker="w1", state=HoldState.SERVING) for each in serials],
    )


def client(*reservations: Reservation) -> GenericMeasuringClient:
    class Client:
        def reservations(self) -> list[Reservation]:
            return list(reservations)

    return cast("GenericMeasuringClient", Client())


def test_given_one_that_waits_besides_when_none_is_named_then_it_is_the_other() -> None:
    both = client(reservation("waits"), reservation("has", "A"))

    assert chosen_reservation(both, None).id == "has"
    assert chosen_reservation(both, "waits").id == "waits"
    assert chosen_reservation(client(reservation("waits")), None).id == "waits"
    with pytest.raises(typer.BadParameter, match="several"):
        chosen_reservation(client(reservation("has", "A"), reservation("too", "B")), None)


def test_given_boards_that_are_held_when_named_then_their_reservation_is_used() -> None:
    ours = client(reservation("r1", "A1", "B1"), reservation("r2", "C1", kind="variance"))

    assert holding(ours, None, ["a1"]) == "r1"
    assert holding(ours, "pulsecount", ["B1", "A1"]) == "r1"
    assert holding(ours, None, ["C1"]) == "r2"
    assert holding(ours, None, ["D1"]) is None


@pytest.mark.parametrize(
    ("kind", "serials", "told"),
    [
        (None, ["A1", "C1"], "C1 is in reservation r2"),
        (None, ["A1", "D1"], "D1 in none"),
        ("pulsecount", ["C1"], "--kind variance"),
    ],
)
def test_given_boards_that_no_single_reservation_serves_when_named_then_that_is_said(
    kind: str | None, serials: list[str], told: str
) -> None:
    ours = client(reservation("r1", "A1"), reservation("r2", "C1", kind="variance"))

    with pytest.raises(typer.BadParameter, match=told):
        holding(ours, kind, serials)


@pytest.mark.parametrize(
    ("said", "anew"),
    [
        ({"wait": 60.0}, False),
        ({"priority": 3}, False),
        ({"selector": "rack=b"}, True),
        ({"count": 1}, True),
        ({"replace": True}, True),
        ({"args": ["a=1"]}, True),
    ],
)
def test_given_what_is_said_of_boards_then_held_ones_serve_unless_it_may_not_hold_for_them(
    said: dict[str, Any], anew: bool
) -> None:
    plain = BoardRequest(None, None, None, ["A1"], None, None, 0, False, [])
    request = replace(plain, **said)

    assert request.reserves
    assert request.makes_anew is anew
