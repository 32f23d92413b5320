"""Messages between our models and paho's packets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers
from pydantic import BaseModel

from icebus.schemas.topics import TopicName


@dataclass(frozen=True)
class Will:
    """What the broker publishes when this client dies.

    Attributes:
        topic: relative to the root.
        message: sent as JSON.
        interval: at which the client repeats its state, where the expiry depends on that.
    """

    topic: TopicName
    message: BaseModel
    interval: float | None = None

    @property
    def properties(self) -> Properties:
        """The MQTT 5 properties it goes with."""
        made = Properties(PacketTypes.WILLMESSAGE)
        expiry = self.topic.family.expiry.seconds(self.interval)
        if expiry is not None:
            made.MessageExpiryInterval = _whole_seconds(expiry)
        return made


@dataclass(frozen=True)
class Incoming:
    """A message from the network, not yet trusted.

    Attributes:
        topic: relative to the root.
        ids: the levels of the topic, by name.
        payload: raw bytes.
        retained: sent because we subscribed, not because it was just published.
        response_topic: where an answer is wanted, relative to the root; None without one, empty
            when it lies outside the root, where nothing is ever answered.
        correlation: opaque bytes to send back.
        properties: MQTT 5 user properties.
    """

    topic: str
    ids: dict[str, str]
    payload: bytes
    retained: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Root:
    """The levels that all topics of a farm begin with, and nobody but the bus writes."""

    name: str

    def absolute(self, topic: str) -> str:
        """The topic as it crosses the network."""
        return f"{self.name}/{topic}"

    def relative(self, topic: str) -> str | None:
        """The topic as we know it, None for one outside the root."""
        prefix = f"{self.name}/"
        return topic.removeprefix(prefix) if topic.startswith(prefix) else None


def from_paho(root: Root, topic: str, ids: dict[str, str], message: paho.MQTTMessage) -> Incoming:
    """A message that paho received on ``topic``."""
    properties = vars(message.properties)  # to ask paho's class for one that is not there is slow
    response = properties.get("ResponseTopic")
    return Incoming(
        topic=topic,
        ids=ids,
        payload=bytes(message.payload),
        retained=message.retain,
        response_topic=None if response is None else root.relative(response) or "",
        correlation=properties.get("CorrelationData"),
        properties=dict(properties.get("UserProperty", ())),
    )


class PublishProperties(Properties):
    """The properties of a message to publish, encoded once.

    paho's own class takes 80 µs to be filled and packed, which is more than all else that a message
    costs us; this takes 5. It is write only: paho never reads the properties it sends.
    """

    _packed: bytes

    def __init__(self, packed: bytes) -> None:  # paho's constructor prepares what we do not use
        object.__setattr__(self, "_packed", packed)

    def pack(self) -> bytes:
        """As they stand in the packet: their length, then each (MQTT 5, section 2.2.2)."""
        return self._packed

    def __str__(self) -> str:
        return f"{len(self._packed)} bytes"


def publish_properties(
    expiry: float | None,
    response_topic: str | None,
    correlation: bytes | None,
    user: dict[str, str] | None,
) -> Properties:
    """The MQTT 5 properties of a message to publish; the response topic is absolute."""
    packed = b""
    if expiry is not None:
        packed += EXPIRY + _whole_seconds(expiry).to_bytes(4, "big")
    if response_topic is not None:
        packed += RESPONSE_TOPIC + _counted(response_topic.encode())
    if correlation is not None:
        packed += CORRELATION + _counted(correlation)
    for name, value in (user or {}).items():
        packed += USER_PROPERTY + _counted(name.encode()) + _counted(value.encode())
    return PublishProperties(VariableByteIntegers.encode(len(packed)) + packed)


EXPIRY, RESPONSE_TOPIC, CORRELATION = b"\x02", b"\x08", b"\x09"
SUBSCRIPTION, USER_PROPERTY = b"\x0b", b"\x26"
PAYLOAD_FORMAT, CONTENT_TYPE, TOPIC_ALIAS = b"\x01", b"\x03", b"\x23"
"""Identifiers of properties (MQTT 5, section 2.2.2.2)."""


def _whole_seconds(expiry: float) -> int:
    # 0 would mean for ever.
    return max(1, math.ceil(expiry))


def _counted(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
