"""Whoever is shut out is so at once, and Mosquitto's memory stays whole by that."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from tests.broker.standing import directory_with_tls

from icebus.broker.access import Principal
from icebus.broker.cli.running import StandingBroker
from icebus.broker.directory import BrokerDirectory
from icebus.broker.mosquitto import hash_password, is_hash_of, password_file
from icebus.broker.reading import has_the_mistake
from icebus.broker.saved_state import forget_sessions, without_sessions
from icebus.bus import Bus, wait_for
from icebus.schemas.components import ClientState, Presence
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import NotAuthorized
from icebus.schemas.topics import CLIENT_STATE, Role

PEOPLE = [Principal(id=name, role=Role.USER) for name in ("alice", "bob")]


@pytest.fixture
def files(tmp_path: Path) -> BrokerDirectory:
    return directory_with_tls(tmp_path / "broker", PEOPLE)


def shut_out(files: BrokerDirectory) -> None:
    files.remove_principal("alice")


def give_another_password(files: BrokerDirectory) -> None:
    files.add_principals([Principal(id="alice", role=Role.USER, password="another")])


@pytest.mark.usefixtures("mosquitto")
@pytest.mark.parametrize("end", [shut_out, give_another_password])
def test_given_a_session_when_its_password_ends_then_mosquitto_goes_on_without_sessions(
    files: BrokerDirectory,
    standing: StandingBroker,
    end: Callable[[BrokerDirectory], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    alice, bob = connected(files, "alice"), connected(files, "bob")
    try:
        state = CLIENT_STATE(user="bob", client="c1")
        online = ClientState(state=Presence.ONLINE, session="s")
        wait_for(bob.publish(state, online, interval=600), soon(), "the broker")
        standing.check()
        before = standing.broker.child.process.pid

        end(files)

        until(lambda: not standing.broker.child.running)
        standing.check()
        assert "a password of alice counts no longer: starting Mosquitto anew" in caplog.text
        assert standing.broker.child.process.pid != before
        until(lambda: bob.connected)
        kept: list[bytes] = []
        bob.subscribe(CLIENT_STATE, lambda message: kept.append(message.payload), user="bob")
        until(lambda: bool(kept))
        assert not alice.connected
    finally:
        for bus in (alice, bob):
            bus.close(Deadline.after(0.5))


@pytest.mark.usefixtures("mosquitto")
def test_given_a_session_when_somebody_is_added_then_nothing_is_started_anew(
    files: BrokerDirectory, standing: StandingBroker
) -> None:
    before = standing.broker.child.process.pid
    files.add_principals([Principal(id="carl", role=Role.USER)])
    standing.check()
    carl = connected(files, "carl")
    carl.close(soon())
    files.reload()
    standing.check()
    assert standing.broker.child.process.pid == before


@pytest.mark.usefixtures("mosquitto", "minded")
def test_given_many_who_are_shut_out_one_after_the_other_then_the_broker_is_there_without_them(
    files: BrokerDirectory,
) -> None:
    names = [f"u{number}" for number in range(12)]
    files.add_principals([Principal(id=name, role=Role.USER) for name in names])
    addresses = [files.address_of(files.principals[name]) for name in names]
    for name in names:
        files.remove_principal(name)
    bob = connected(files, "bob")
    bob.close(soon())
    for address in addresses[-2:]:
        with pytest.raises(NotAuthorized):
            Bus(address, "removed").connect(soon())


# --- what Mosquitto saves --------------------------------------------------------------------

HEADER = struct.pack("!15sII", b"\x00\xb5\x00mosquitto db", 0, 6)
CLIENT, SUBSCRIPTION, MESSAGE_OF_CLIENT = 6, 5, 3
STORED, RETAINED = 2, 4

Chunks = list[tuple[int, bytes]]
bodies = some.binary(min_size=8, max_size=40)
of_sessions = some.tuples(some.sampled_from([CLIENT, SUBSCRIPTION, MESSAGE_OF_CLIENT]), bodies)


def saved(chunks: Chunks) -> bytes:
    return HEADER + b"".join(struct.pack("!II", kind, len(body)) + body for kind, body in chunks)


@given(some.lists(of_sessions), some.sets(some.binary(min_size=8, max_size=8)), bodies)
def test_given_what_was_saved_then_all_that_is_retained_stays_and_no_session(
    sessions: Chunks, ids: set[bytes], body: bytes
) -> None:
    kept: Chunks = [(1, b"settings"), *((STORED, each + body) for each in sorted(ids))]
    kept += [(RETAINED, each) for each in sorted(ids)]
    only_theirs = [(STORED, b"unretained" + body)]
    assert without_sessions(saved([*kept[:1], *only_theirs, *sessions, *kept[1:]])) == saved(kept)
    assert without_sessions(saved(kept)) == saved(kept)


@given(some.binary())
def test_given_what_nobody_can_read_then_it_is_left_as_it_is(rubbish: bytes) -> None:
    assert without_sessions(rubbish) == rubbish
    cut = saved([(CLIENT, b"12345678")])[:-1]
    assert without_sessions(cut) == cut
    later = HEADER[:-1] + b"\x07" + rubbish
    assert without_sessions(later) == later


def test_given_nothing_saved_then_there_is_nothing_to_forget(tmp_path: Path) -> None:
    forget_sessions(tmp_path)
    assert not list(tmp_path.iterdir())


# --- passwords -------------------------------------------------------------------------------


def test_given_passwords_in_the_clear_then_those_that_stay_have_the_same_line_again() -> None:
    first = password_file(PEOPLE)
    changed = [PEOPLE[0], Principal(id="bob", role=Role.USER, password="another")]
    again = password_file(changed, first)
    assert set(first.splitlines()) & set(again.splitlines()) == {first.splitlines()[0]}


@pytest.mark.parametrize("hash_", ["", "$7$101$!$x", "$6$salt", "$7$101$YWJj$bm90aXQ="])
def test_given_a_hash_then_it_is_of_its_password_only(hash_: str) -> None:
    assert not is_hash_of("secret", hash_)
    assert is_hash_of("secret", hash_password("secret"))


@pytest.mark.parametrize(
    ("said", "has"),
    [
        ("mosquitto version 2.0.11\n", True),
        ("mosquitto version 2.0.22\n", True),
        ("mosquitto version 2.1.0\n", False),
        ("mosquitto version 3.0.0\n", False),
        ("", True),
    ],
)
def test_given_a_version_then_it_is_known_whether_it_may_read_anew(said: str, has: bool) -> None:
    assert has_the_mistake(said) == has


def connected(files: BrokerDirectory, name: str) -> Bus:
    bus = Bus(files.address_of(files.principals[name]), name)
    bus.connect(soon())
    return bus


def soon() -> Deadline:
    return Deadline.after(20)


def until(true: Callable[[], bool]) -> None:
    deadline = soon()
    while not true():
        assert not deadline.expired
        time.sleep(0.01)
