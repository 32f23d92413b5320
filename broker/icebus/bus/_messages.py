"""Messages between our models and paho's packets."""

from __future__ import annotations

import math
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers
from pydantic import BaseModel

from icebus.bus._tcp import NoHandshake
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


class QuickReadingClient(paho.Client):
    """paho's client, with a quicker reader of the messages that come.

    paho takes 60 µs to read the properties of an event and 120 µs for those of a request, which was
    a tenth of all that an evaluation costs a worker. There is no public way to read them otherwise,
    so this overrides how a PUBLISH packet is handled, and leaves to paho each one that is not as
    brokers send ours: what is malformed is refused as it always was.

    Attributes:
        connect_error: why the last attempt to open a connection failed, which paho does not tell.
    """

    connect_error: Exception | None = None

    def _create_socket(self) -> Any:
        try:
            return super()._create_socket()
        except (OSError, UnicodeError) as error:
            self.connect_error = error
            raise

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        # paho's own leaves a connection open whose handshake fails.
        context = self._ssl_context or ssl.create_default_context()
        encrypted = context.wrap_socket(
            tcp_sock, server_hostname=self._host, do_handshake_on_connect=False
        )
        try:
            encrypted.settimeout(self._connect_timeout)
            encrypted.do_handshake()
        except TimeoutError:
            encrypted.close()
            raise NoHandshake from None
        except BaseException:
            encrypted.close()
            raise
        return encrypted

    def _handle_publish(self) -> MQTTErrorCode:
        message = read_publish(self._in_packet["command"], self._in_packet["packet"])
        if message is None:
            return super()._handle_publish()
        self._handle_on_message(message)
        return self._send_puback(message.mid) if message.qos else MQTTErrorCode.MQTT_ERR_SUCCESS


class ReceivedProperties(Properties):
    """The properties of a message that came. Read only."""

    def __init__(self, values: dict[str, Any]) -> None:  # paho's prepares what we do not use
        self.__dict__.update(values)

    def __str__(self) -> str:
        return str(self.__dict__)


def read_publish(header: int, packet: bytes | bytearray) -> paho.MQTTMessage | None:
    """The message in a PUBLISH packet (MQTT 5, section 3.3).

    None for one of QoS 2, with properties that nobody sends us, or malformed.

    Args:
        header: the packet's first byte.
        packet: what follows its length.
    """
    qos = header >> 1 & 3
    if qos > 1:
        return None
    try:
        topic_end = 2 + int.from_bytes(packet[:2])
        at = topic_end + (2 if qos else 0)
        length, at = _read_integer(packet, at)
        payload_at = at + length
        if payload_at > len(packet):
            return None
        properties = _read_properties(packet[at:payload_at])
    except (IndexError, ValueError):
        return None
    message = paho.MQTTMessage(
        mid=int.from_bytes(packet[topic_end : topic_end + 2]) if qos else 0,
        topic=bytes(packet[2:topic_end]),
    )
    message.dup = bool(header & 8)
    message.qos = qos
    message.retain = bool(header & 1)
    message.properties = ReceivedProperties(properties)
    message.payload = bytes(packet[payload_at:])
    return message


def _read_properties(data: bytes | bytearray) -> dict[str, Any]:
    """The properties, named as paho does.

    Raises:
        ValueError: one is malformed, there twice, or not among those that we send.
        IndexError: one ends early.
    """
    found: dict[str, Any] = {}
    at = 0
    while at < len(data):
        identifier, at = bytes(data[at : at + 1]), at + 1
        if identifier == _SUBSCRIPTION:
            number, at = _read_integer(data, at)
            found.setdefault("SubscriptionIdentifier", []).append(number)
            continue
        if identifier == _USER:
            key, at = _read_text(data, at)
            text, at = _read_text(data, at)
            found.setdefault("UserProperty", []).append((key, text))
            continue
        value: int | bytes | str
        if identifier == _EXPIRY:
            name, value, at = "MessageExpiryInterval", int.from_bytes(data[at : at + 4]), at + 4
        elif identifier == _CORRELATION:
            name, (value, at) = "CorrelationData", _read_counted(data, at)
        elif identifier == _RESPONSE_TOPIC:
            name, (value, at) = "ResponseTopic", _read_text(data, at)
        else:
            raise ValueError("a property that is left to paho")
        if name in found:
            raise ValueError(f"{name} twice")
        found[name] = value
    if at != len(data):
        raise ValueError("the last property ends early")
    return found


def _read_integer(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """A variable byte integer and where it ends (MQTT 5, section 1.5.5)."""
    value = 0
    for shift in (0, 7, 14, 21):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("an integer of more than four bytes")


def _read_counted(data: bytes | bytearray, at: int) -> tuple[bytes, int]:
    """Bytes that follow their number, and where they end."""
    begin = at + 2
    end = begin + int.from_bytes(data[at:begin])
    if end > len(data):
        raise ValueError("a property ends early")
    return bytes(data[begin:end]), end


def _read_text(data: bytes | bytearray, at: int) -> tuple[str, int]:
    """Text and where it ends, without the characters that MQTT forbids (section 1.5.4)."""
    read, at = _read_counted(data, at)
    text = read.decode()
    if "\0" in text or "\ufeff" in text:
        raise ValueError("a character that MQTT forbids")
    return text, at


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
        packed += _EXPIRY + _whole_seconds(expiry).to_bytes(4, "big")
    if response_topic is not None:
        packed += _RESPONSE_TOPIC + _counted(response_topic.encode())
    if correlation is not None:
        packed += _CORRELATION + _counted(correlation)
    for name, value in (user or {}).items():
        packed += _USER + _counted(name.encode()) + _counted(value.encode())
    return PublishProperties(VariableByteIntegers.encode(len(packed)) + packed)


_EXPIRY, _RESPONSE_TOPIC, _CORRELATION = b"\x02", b"\x08", b"\x09"
_SUBSCRIPTION, _USER = b"\x0b", b"\x26"
"""Identifiers of properties (MQTT 5, section 2.2.2.2)."""


def _whole_seconds(expiry: float) -> int:
    # 0 would mean for ever.
    return max(1, math.ceil(expiry))


def _counted(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
