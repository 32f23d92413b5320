"""Which clients are there: those that say so, for as long as they do."""

from __future__ import annotations

from icebus.control.watch.clients import Clients
from icebus.schemas.components import ClientState, Presence
from icebus.schemas.liveness import SILENT_AFTER

KEY = ("alice", "c")


def heard(clients: Clients, at: float, interval: float | None = 2.0) -> None:
    state = ClientState(state=Presence.ONLINE, session="s", interval=interval)
    clients.on_state(*KEY, state, at)


def test_given_a_client_that_repeats_itself_when_it_falls_silent_then_it_is_missed_once() -> None:
    clients = Clients()
    heard(clients, at=10.0)
    heard(clients, at=12.0)
    assert clients.drop_silent(11.9 + SILENT_AFTER * 2.0) == []
    assert clients.online(*KEY)
    assert clients.drop_silent(12.0 + SILENT_AFTER * 2.0) == [KEY]
    assert not clients.online(*KEY)
    assert clients.drop_silent(1e9) == []


def test_given_a_client_that_was_missed_when_it_speaks_then_it_is_there_again() -> None:
    clients = Clients()
    heard(clients, at=0.0)
    clients.drop_silent(100.0)
    heard(clients, at=101.0)
    assert clients.online(*KEY)


def test_given_a_client_that_never_repeats_itself_then_only_the_broker_says_that_it_is_gone() -> (
    None
):
    clients = Clients()
    heard(clients, at=0.0, interval=None)
    assert clients.drop_silent(1e9) == []
    assert clients.online(*KEY)


def test_given_the_broker_was_away_when_it_is_back_then_everybody_has_as_long_as_ever() -> None:
    clients = Clients()
    heard(clients, at=0.0)
    clients.connected(at=100.0)
    assert clients.drop_silent(99.9 + SILENT_AFTER * 2.0) == []
    assert clients.drop_silent(100.0 + SILENT_AFTER * 2.0) == [KEY]
