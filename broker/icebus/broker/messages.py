"""Messages between our models and paho's packets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pydantic import BaseModel


@dataclass(frozen=True)
class Will:
    """What the broker says, retained, when this client dies."""

    topic: str
    message: BaseModel


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


def incoming(root: Root, topic: str, ids: dict[str, str], message: paho.MQTTMessage) -> Incoming:
    """A message that paho received on ``topic``."""
    properties = message.properties
    response = getattr(properties, "ResponseTopic", None)
    return Incoming(
        topic=topic,
        ids=ids,
        payload=bytes(message.payload),
        retained=message.retain,
        response_topic=None if response is None else root.relative(response) or "",
        correlation=getattr(properties, "CorrelationData", None),
        properties=dict(getattr(properties, "UserProperty", ())),
    )


def publish_properties(
    expiry: float | None,
    response_topic: str | None,
    correlation: bytes | None,
    user: dict[str, str] | None,
) -> Properties:
    """The MQTT 5 properties of a message to publish; the response topic is absolute."""
    options = Properties(PacketTypes.PUBLISH)
    if expiry is not None:
        # Whole seconds, and 0 would mean for ever.
        options.MessageExpiryInterval = max(1, math.ceil(expiry))
    if response_topic is not None:
        options.ResponseTopic = response_topic
    if correlation is not None:
        options.CorrelationData = correlation
    if user:
        options.UserProperty = list(user.items())
    return options
