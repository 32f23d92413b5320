"""``icebus-broker remove``: what somebody has that ends with that, and whether it has ended."""

from __future__ import annotations

import threading

import typer

from icebus.broker.access import Principal
from icebus.broker.cli.command_options import say
from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import reachable
from icebus.bus import BrokerAddress, Bus, Incoming, wait_for
from icebus.schemas.components import ClientState, Presence
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError, UnknownPrincipal
from icebus.schemas.ids import BROKER
from icebus.schemas.message import decode
from icebus.schemas.operations.reservations import Reservation, ReservationState
from icebus.schemas.topics import CLIENT_STATE, DEVICE, RESERVATION, Role

LOOK_TIMEOUT = 4.0
"""Seconds to connect to the broker, and for it to say what it keeps."""

END_TIMEOUT = 20.0
"""Seconds for control to end what somebody had: what is younger than ten seconds is looked at when
it is as old as that, and the broker's service looks every second whom there is."""

SHOWN = 5
"""Things of one sort that are named; of more there is a number."""


def remove(files: BrokerDirectory, name: str, wait: bool = True) -> None:
    """Shut somebody out, and say what they had and whether that has ended.

    Args:
        files: of the broker.
        name: who.
        wait: for control to end it.

    Raises:
        UnknownPrincipal: nobody of that name is known.
        InvalidRequest: it is the broker's own service.
    """
    principal = files.principals.get(name)
    if principal is None:
        raise UnknownPrincipal(f"nobody here is called {name!r}; `icebus-broker list`")
    holdings = _look(files, principal)
    try:
        files.remove_principal(name)
        typer.echo(f"{name} removed")
        if holdings is None:
            say("what they had ends once the broker, its service and control run")
            return
        _tell(holdings, wait)
    finally:
        if holdings is not None:
            holdings.close()


def _tell(holdings: Holdings, wait: bool) -> None:
    for line in holdings.lines():
        say(line)
    if not holdings.anything:
        say("they had nothing")
    elif not wait:
        say("control ends all of that")
    elif holdings.wait(Deadline.after(END_TIMEOUT)):
        say("all of that has ended")
    else:
        say(
            "control has not ended that yet, and does so as soon as it hears of the removal: is it "
            "there? `icebus doctor`"
        )


def _look(files: BrokerDirectory, principal: Principal) -> Holdings | None:
    """What somebody has by the broker's retained state; None if that can't be seen."""
    files.wait_until_started(Deadline.after(LOOK_TIMEOUT))
    settings, service = files.settings, files.principals.get(BROKER)
    if settings is None or service is None or files.pid is None or principal.id == BROKER:
        return None
    address = BrokerAddress(
        reachable(settings.host), settings.port, BROKER, service.password, settings.root
    )
    holdings = Holdings(Bus(address, "remove", session_expiry=0), principal)
    try:
        holdings.look(Deadline.after(LOOK_TIMEOUT))
    except IcebusError as error:
        say(f"can't see what {principal.id} has: {error.message}")
        holdings.close()
        return None
    return holdings


class Holdings:
    """What somebody has, as the broker retains it.

    Args:
        bus: as the principal ``broker``, not connected yet.
        principal: who.
    """

    def __init__(self, bus: Bus, principal: Principal) -> None:
        self._bus = bus
        self._who = principal
        self._changed = threading.Condition()
        self._reservations: dict[str, Reservation] = {}
        self._clients: set[str] = set()
        self._boards: set[str] = set()
        self._looked = False
        self._came_back = False

    def look(self, deadline: Deadline) -> None:
        """Connect, and hear what there is.

        Raises:
            IcebusError: the broker does not answer.
        """
        bus, name = self._bus, self._who.id
        bus.connect(deadline)
        asked = [bus.subscribe(RESERVATION, self._on_reservation)]
        if self._who.role is Role.WORKER:
            asked += [bus.subscribe(DEVICE, self._on_device, worker=w) for w in self._who.own_ids]
        # Last: when it is acknowledged, what is kept on the others has come.
        asked += [bus.subscribe(CLIENT_STATE, self._on_client, user=name) for _ in range(2)]
        for each in asked:
            wait_for(each.acknowledged, deadline, "the broker")
        passed = threading.Event()
        bus.call_soon(passed.set)
        passed.wait(deadline.remaining)
        bus.on_connected(self._on_connected)

    @property
    def anything(self) -> bool:
        """Whether there is anything that control has to end."""
        with self._changed:
            return bool(self._reservations or self._boards)

    def lines(self) -> list[str]:
        """What there is, in words."""
        name = self._who.id
        with self._changed:
            mine = [each for each in self._reservations.values() if each.user == name]
            offers = [each for each in self._reservations.values() if each.user != name]
            boards, clients = sorted(self._boards), len(self._clients)
        held = [each for each in mine if each.state is not ReservationState.QUEUED]
        queued = [each for each in mine if each.state is ReservationState.QUEUED]
        return [
            *_named("reservation", [_with_boards(each) for each in held]),
            *_named("place in the queue", [f"{each.id} ({each.kind})" for each in queued]),
            *_named("offer made to them", [f"{each.id} of {each.user}" for each in offers]),
            *_named("board", boards),
            *([f"{clients} connected client{'s' if clients > 1 else ''}"] if clients else []),
        ]

    def wait(self, deadline: Deadline) -> bool:
        """Wait for control to end it; False when it has not by the deadline."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._came_back or self._ended, deadline.remaining)
                if not self._came_back:
                    return self._ended
                self._came_back = False
            # What ended while the broker was started anew was said to nobody.
            self._look_again(deadline)

    @property
    def _ended(self) -> bool:
        return not self._reservations and not self._boards

    def _look_again(self, deadline: Deadline) -> None:
        again = Holdings(Bus(self._bus.address, "remove", session_expiry=0), self._who)
        try:
            again.look(deadline)
        except IcebusError:
            return  # the connection that there is says what changes
        finally:
            again.close()
        with self._changed:
            left = again._reservations
            self._reservations = {
                id_: each for id_, each in self._reservations.items() if id_ in left
            }
            self._boards &= again._boards

    def close(self) -> None:
        """End the connection."""
        self._bus.close(Deadline.after(1))

    # --- on the dispatcher ----------------------------------------------------------------------

    def _on_connected(self) -> None:
        with self._changed:
            self._came_back = self._looked
            self._looked = True
            self._changed.notify_all()

    def _on_reservation(self, incoming: Incoming) -> None:
        name, id_ = self._who.id, incoming.ids["reservation"]
        found = decode(Reservation, incoming.payload) if incoming.payload else None
        offered = found is not None and found.offer is not None and found.offer.to == name
        with self._changed:
            if found is not None and (found.user == name or offered):
                self._reservations[id_] = found
            else:
                self._reservations.pop(id_, None)
            self._changed.notify_all()

    def _on_client(self, incoming: Incoming) -> None:
        state = decode(ClientState, incoming.payload) if incoming.payload else None
        there = state is not None and state.state is Presence.ONLINE
        with self._changed:
            (self._clients.add if there else self._clients.discard)(incoming.ids["client"])

    def _on_device(self, incoming: Incoming) -> None:
        with self._changed:
            change = self._boards.add if incoming.payload else self._boards.discard
            change(incoming.ids["serial"])
            self._changed.notify_all()


_MANY = {
    "reservation": "reservations",
    "place in the queue": "places in the queue",
    "offer made to them": "offers made to them",
    "board": "boards",
}


def _with_boards(reservation: Reservation) -> str:
    serials = [each.serial for each in reservation.devices]
    more = f" and {len(serials) - SHOWN} more" if len(serials) > SHOWN else ""
    return f"{reservation.id} ({reservation.kind}) of {', '.join(serials[:SHOWN])}{more}"


def _named(what: str, things: list[str]) -> list[str]:
    if not things:
        return []
    many = f"{len(things)} {what}" if len(things) == 1 else f"{len(things)} {_MANY[what]}"
    more = f" and {len(things) - SHOWN} more" if len(things) > SHOWN else ""
    return [f"{many}: {'; '.join(things[:SHOWN])}{more}"]
