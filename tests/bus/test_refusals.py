"""What a request can't be carried out for is told to who asked, whatever it is."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from tests.connections import soon, subscribed

from icebus.bus import Bus, Exchange, FromUsers, Incoming, Responder, wait_for
from icebus.bus._messages import publish_properties
from icebus.schemas.calls import Reply, Request
from icebus.schemas.message import Message, decode
from icebus.schemas.topics import OPERATION, REPLY

REPLIES = REPLY(user="alice", client="c1", sender="control")
LIST = OPERATION(user="alice", operation="list")


class Word(Message):
    word: str = "yes"


class Alice:
    """Somebody who speaks to a control by hand.

    Args:
        connect: to the broker.
        inbox: for answers.
    """

    def __init__(self, connect: Any, inbox: Any) -> None:
        control = connect("main")
        responder = Responder(control, "control")

        def answer(incoming: Incoming) -> None:
            exchange: Exchange[Request] | None = responder.accept(incoming, Request)
            if exchange is not None:
                exchange.succeed(Word())

        users = FromUsers(refused=responder.refuse)
        wait_for(control.subscribe(OPERATION, answer, users).acknowledged, soon(), "the broker")
        self.bus: Bus = connect("alice")
        self.heard = inbox()
        subscribed(self.bus, REPLY, self.heard, user="alice")
        self.asked = 0

    def ask(self, properties: Properties, topic: str = LIST, payload: bytes = b"") -> Incoming:
        """What a request is answered."""
        self.asked += 1
        payload = payload or b'{"id":"q%d"}' % self.asked
        absolute = f"{self.bus.address.root}/{topic}"
        self.bus._client.publish(absolute, payload, qos=1, properties=properties)
        heard: list[Incoming] = self.heard.wait(self.asked)
        return heard[-1]


@pytest.fixture
def alice(connect: Any, inbox: Any) -> Alice:
    return Alice(connect, inbox)


def properties(correlation: bytes = b"c", user: dict[str, str] | None = None) -> Properties:
    return publish_properties(None, f"icebus/v1/{REPLIES}", correlation, user)


def code(answer: Incoming) -> str | None:
    error = decode(Reply, answer.payload).error
    return None if error is None else error.code


MANY = {str(number): "v" for number in range(800)}


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(properties(b"x" * 60_000), id="correlation data"),
        pytest.param(properties(user=MANY), id="user properties"),
        pytest.param(properties(user={"k": "v" * 60_000}), id="one user property"),
    ],
)
def test_given_more_properties_than_are_taken_then_who_asks_is_told_the_true_limit(
    alice: Alice, asked: Properties
) -> None:
    answer = alice.ask(asked)

    reply = decode(Reply, answer.payload)
    assert reply.error is not None
    assert (reply.id, reply.error.code) == ("q1", "message_too_large")
    assert reply.error.details["limit"] == 1024
    assert "properties" in reply.error.message
    assert len(answer.correlation or b"") in (1, 60_000)
    assert code(alice.ask(properties())) is None


@pytest.mark.parametrize(
    "operation",
    ["li st", "li\u202est", "x" * 65, "x" * 20_000, "", "$list", "liste\N{COMBINING ACUTE ACCENT}"],
    ids=ascii,
)
def test_given_an_operation_that_can_be_none_then_who_asks_is_told_why(
    alice: Alice, operation: str
) -> None:
    answer = alice.ask(properties(), f"control/call/alice/{operation}")

    reply = decode(Reply, answer.payload)
    assert reply.error is not None
    assert reply.error.code == "invalid_request"
    assert reply.error.message.startswith("operation ")
    assert len(reply.error.message) < 1000
    assert code(alice.ask(properties())) is None


def of_packet(**values: Any) -> Properties:
    made = Properties(PacketTypes.PUBLISH)
    made.ResponseTopic = f"icebus/v1/{REPLIES}"
    for name, value in values.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(of_packet(ContentType="application/json"), id="content type"),
        pytest.param(of_packet(PayloadFormatIndicator=1), id="text"),
        pytest.param(of_packet(MessageExpiryInterval=2**32 - 1), id="longest expiry"),
        pytest.param(of_packet(CorrelationData=b"\0" * 900), id="zeros as correlation data"),
        pytest.param(of_packet(UserProperty=[("k", "v")] * 50), id="one name 50 times"),
    ],
)
def test_given_properties_that_say_nothing_to_us_then_the_request_is_answered(
    alice: Alice, asked: Properties
) -> None:
    assert code(alice.ask(asked)) is None


@pytest.mark.parametrize(
    "payload",
    [
        b'{"id":"q1","args":{"x":"\xff"}}',
        b'{"id":"q1","args":{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}}",
        b'{"id":"q1","args":{"x":1' + b"0" * 5000 + b"}}",
        b'{"id":"q1","args":{"x":"\\ud800"}}',
        b'{"id":"q1\\n"}',
        b'{"id":"q1","args":[]}',
        b"[]",
        b"\0",
    ],
    ids=lambda payload: ascii(payload[:30]),
)
def test_given_a_payload_that_is_no_request_then_who_asks_is_told_briefly(
    alice: Alice, payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        answer = alice.ask(properties(), payload=payload)

    assert code(answer) == "invalid_request"
    assert len(answer.payload) < 1000
    assert any(message.startswith("refused alice: ") for message in caplog.messages)
    assert code(alice.ask(properties())) is None
