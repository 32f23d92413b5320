"""Who floods the broker with retained messages is barred; whoever is in their right is not."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from icebus.broker.access import Principal, access_list
from icebus.broker.accounts import standing
from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.service.bars import Bars
from icebus.broker.service.excess import AT_ONCE, BARRED, LONGER, LONGEST, PER_SECOND, Excess
from icebus.broker.service.memory import GROWTH, Growth
from icebus.broker.service.retained import RetainedGuard
from icebus.broker.service.scanner import Answered, Message, Scanner
from icebus.broker.service.writers import DEVICES_OF_WORKER, OF_NOBODY, Writers
from icebus.bus import BrokerAddress
from icebus.schemas.deadline import Deadline
from icebus.schemas.ids import BROKER, CONTROL
from icebus.schemas.topics import DEVICE, REPLY, WORKER_STATE, Role

WITHIN = 15.0

# --- who has too much of it -----------------------------------------------------------------------


def leave(excess: Excess, count: int, now: float, who: str = "lab9", size: int = 10) -> bool:
    return sum(excess.found(who, size, now) for _ in range(count)) > 0


def test_given_as_many_as_may_be_at_once_then_one_more_is_too_much() -> None:
    excess = Excess()
    assert not leave(excess, int(AT_ONCE) - 1, 0.0)
    assert leave(excess, 1, 0.0)


def test_given_fewer_a_second_than_may_be_for_ever_then_it_is_never_too_much() -> None:
    excess = Excess()
    assert not any(leave(excess, int(PER_SECOND) * 3, 3.0 * look) for look in range(200))


def test_given_large_messages_then_each_counts_as_several() -> None:
    excess = Excess()
    assert not leave(excess, 60, 0.0, size=2 << 20)
    assert leave(excess, 5, 0.0, size=2 << 20)


def test_given_somebody_barred_then_what_they_left_before_bars_them_no_longer() -> None:
    excess = Excess()
    assert excess.bar("lab9", 0.0) == BARRED
    assert not leave(excess, 20_000, 5.0)
    excess.looked(frozenset({"lab9"}))
    assert not leave(excess, 20_000, 6.0)


@pytest.mark.parametrize("clean", [True, False])
def test_given_a_bar_that_is_over_when_they_flood_again_then_they_are_barred_for_longer(
    clean: bool,
) -> None:
    excess = Excess()
    excess.bar("lab9", 0.0)
    if clean:
        excess.looked(frozenset())
    assert leave(excess, int(AT_ONCE), BARRED + 1)
    assert excess.bar("lab9", BARRED + 1) == BARRED * LONGER
    assert max(excess.bar("lab9", 400.0) for _ in range(9)) == LONGEST


def test_given_an_hour_of_peace_after_a_bar_then_the_next_is_short_again() -> None:
    excess = Excess()
    excess.bar("lab9", 0.0)
    assert excess.bar("lab9", BARRED + LONGEST + 1) == BARRED


def test_given_one_who_floods_then_nobody_else_is_counted() -> None:
    excess = Excess()
    leave(excess, int(AT_ONCE), 0.0)
    assert not leave(excess, 100, 0.0, who="lab8")


def test_given_memory_that_grows_in_small_steps_then_it_is_noticed_each_time_it_grew_by_much() -> (
    None
):
    growth = Growth()
    sizes = range(0, GROWTH * 3 + 1, GROWTH // 8)
    assert sum(growth.grown(size) for size in sizes) == 3
    assert not growth.grown(0)
    assert growth.grown(GROWTH)


# --- whose it is ----------------------------------------------------------------------------------


@pytest.fixture
def writers() -> Writers:
    made = Writers()
    made.know(
        [
            Principal(id="lab9", role=Role.WORKER),
            Principal(id="site", role=Role.WORKER, speaks_for=("w1", "w2")),
            Principal(id="main", role=Role.CONTROL),
            Principal(id="anna", role=Role.USER),
        ]
    )
    return made


@pytest.mark.parametrize(
    ("topic", "who"),
    [
        ("user/ä b/client/c/reply/lab9", "lab9"),
        ("user/anna/reservation/r/log/w2/D1", "site"),
        ("worker/w1/device/D1", "site"),
        ("worker/lab9/call/anna/evaluate", "anna"),
        ("log/control/main/info", "main"),
        ("run/user/anna", "anna"),
        ("control/main/state", "main"),
        ("user/anna/client/c/reply/control", CONTROL),
        ("worker/lab9/desired/D1", CONTROL),
        ("worker/nobody/device/D1", CONTROL),
        ("user/removed/client/c/state", CONTROL),
    ],
)
def test_given_a_topic_then_it_says_who_has_written_it(
    writers: Writers, topic: str, who: str
) -> None:
    levels = topic.split("/")
    family = writers.family_of(levels)
    assert family is not None
    assert writers.principal(writers.named(family, levels)) == who


def test_given_all_boards_of_a_large_worker_told_of_again_and_again_then_all_may_stay(
    writers: Writers,
) -> None:
    for _ in range(3):
        for number in range(DEVICES_OF_WORKER):
            assert writers.may_stay(DEVICE, ["worker", "lab9", "device", f"D{number}"], 500)
    assert not writers.may_stay(DEVICE, ["worker", "lab9", "device", "one-more"], 500)
    assert writers.may_stay(DEVICE, ["worker", "w1", "device", "D1"], 500)


def test_given_names_that_nobody_has_then_they_are_bounded_together(writers: Writers) -> None:
    states = [["worker", f"x{number}", "state"] for number in range(OF_NOBODY + 1)]
    assert [writers.may_stay(WORKER_STATE, each, 10) for each in states].count(False) == 1
    assert writers.may_stay(WORKER_STATE, ["worker", "lab9", "state"], 10)


def test_given_somebody_barred_then_the_access_list_lets_them_read_until_that_is_over() -> None:
    now = datetime.now(UTC)
    barred = Principal(id="lab9", role=Role.WORKER, barred_until=now + timedelta(minutes=1))
    text = access_list(standing([barred], now), "icebus/v1")
    assert "topic read" in text
    assert "topic write" not in text
    later = access_list(standing([barred], now + timedelta(minutes=2)), "icebus/v1")
    assert later == access_list([Principal(id="lab9", role=Role.WORKER)], "icebus/v1")


# --- reading what is kept -------------------------------------------------------------------------


def packets(data: bytes, pieces: list[int]) -> list[Message | Answered] | type[OSError]:
    """What a scanner reads when the broker sends that, in pieces."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        scanner = Scanner(ours)
        found: list[Message | Answered] = []
        begin = 0
        for end in [*sorted({min(each, len(data)) for each in pieces}), len(data)]:
            if end > begin:
                theirs.sendall(data[begin:end])
                begin = end
                try:
                    found += scanner.read(1.0)
                except OSError as error:
                    return type(error)
    return found


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_given_bytes_that_are_anything_then_they_are_read_or_the_connection_is_given_up(
    data: bytes, pieces: list[int]
) -> None:
    found = packets(data, pieces)
    assert isinstance(found, list) or issubclass(found, OSError)


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=200), st.binary(max_size=300)), max_size=5),
    st.lists(st.integers(0, 3000), max_size=4),
)
def test_given_messages_in_any_pieces_then_each_is_read_whole(
    messages: list[tuple[bytes, bytes]], pieces: list[int]
) -> None:
    data = b""
    for topic, payload in messages:
        body = len(topic).to_bytes(2) + topic + b"\x05\x02\0\0\0\x09" + payload
        low, high = len(body) & 0x7F, len(body) >> 7
        data += b"\x31" + bytes([low | 0x80, high] if high else [low]) + body
    data += b"\x90\x04\x00\x07\x00\x00"
    wanted = [Message(topic, payload, True) for topic, payload in messages]
    assert packets(data, pieces) == [*wanted, Answered(7)]


# --- at a broker ----------------------------------------------------------------------------------


class Flooder:
    """Somebody who has the broker keep messages on topics ever new, as fast as paho can."""

    def __init__(self, address: BrokerAddress) -> None:
        self._root = address.root
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, os.urandom(16).hex(), protocol=paho.MQTTv5
        )
        self._client.username_pw_set(address.logs_in_as, address.password)
        self.refused: list[str] = []
        self._client.on_publish = self._on_publish
        self._client.connect(address.host, address.port)
        self._client.loop_start()

    def _on_publish(self, _c: object, _u: object, _mid: int, reason: Any, _p: object) -> None:
        if reason.is_failure:
            self.refused.append(str(reason))

    def flood(self, topic: str, count: int) -> None:
        for number in range(count):
            self._client.publish(f"{self._root}/{topic.format(number)}", b"x", retain=True)

    def publish(self, topic: str) -> None:
        self._client.publish(f"{self._root}/{topic}", b"x", qos=1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def files(broker: EmbeddedBroker) -> Iterator[BrokerDirectory]:
    people = [
        Principal(id="lab9", role=Role.WORKER),
        Principal(id="main", role=Role.CONTROL),
        Principal(id="other", role=Role.CONTROL),
    ]
    broker.add_principals(people)
    made = BrokerDirectory(broker.directory)
    guard = RetainedGuard(broker.address(BROKER), made, Bars(made, broker.logins), interval=0.2)
    guard.start()
    yield made
    guard.stop(Deadline.after(WITHIN))
    for each in people:
        made.remove_principal(each.id)


@pytest.mark.parametrize(
    ("who", "topic", "allowed"),
    [
        ("lab9", "user/u{}/client/c/reply/lab9", REPLY(user="u", client="c", sender="lab9")),
        ("other", "user/u{}/client/c/reply/control", "user/u/client/c/reply/control"),
    ],
)
def test_given_a_flood_then_that_principal_alone_is_barred_and_what_it_left_is_cleared_and_said(
    broker: EmbeddedBroker,
    files: BrokerDirectory,
    eventually: Any,
    caplog: pytest.LogCaptureFixture,
    who: str,
    topic: str,
    allowed: str,
) -> None:
    stranger = Flooder(broker.address("main"))
    flooder = Flooder(broker.address(who))

    def flood_until_barred() -> bool:
        flooder.flood(topic, 500)
        return files.principals[who].barred_until is not None

    with caplog.at_level(logging.WARNING):
        eventually(flood_until_barred)
        flooder.publish(allowed)
        eventually(lambda: "Not authorized" in flooder.refused)
        eventually(lambda: "retained messages of" in caplog.text)
    assert f"{who} had the broker keep 2,000 messages more than it may" in caplog.text
    assert [each for each, known in files.principals.items() if known.barred_until] == [who]
    stranger.publish("user/u/client/c/reply/control")
    stranger.close()
    flooder.close()
    assert not stranger.refused
