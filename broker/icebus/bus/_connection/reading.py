"""Reading what the broker sends, quicker than paho does, and refusing before it is read.

A component has to take messages off the network faster than anybody can have the broker send them,
or what matters waits behind them. paho asks the system three times for every packet and takes 60 to
120 µs to read its properties; here as much as there is is read at once, and what is not taken costs
a few µs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from icebus.bus._admission.admission import Judgement
from icebus.bus._connection.connecting import ConnectingClient
from icebus.bus._messages import (
    CONTENT_TYPE,
    CORRELATION,
    EXPIRY,
    PAYLOAD_FORMAT,
    RESPONSE_TOPIC,
    SUBSCRIPTION,
    TOPIC_ALIAS,
    USER_PROPERTY,
)
from icebus.schemas.topics import LARGEST_REQUEST

log = logging.getLogger(__name__)

READ_AT_ONCE = 256 << 10
"""Bytes asked of the system at once: a flood of so much is read in some milliseconds. Each time a
thread that reads may wait for Python's lock, so with less the others' messages behind the flood
would come late."""

PUBLISH, PUBACK = 0x30, 0x40

MOST_PROPERTIES = 2000
"""Properties of a message that is refused that are looked at to tell its sender: 2 ms at most."""

_REASONS = {
    b"": ReasonCode(PacketTypes.PUBACK),
    b"\x10": ReasonCode(PacketTypes.PUBACK, identifier=0x10),
}
_NOTHING = Properties(PacketTypes.PUBACK)
"""What acknowledgements say after their number that took the message, and perhaps gave it to nobody
(MQTT 5, section 3.4.2)."""

Judge = Callable[[bytes, int, int, float], Judgement | None]
Receive = Callable[[paho.MQTTMessage, Judgement | None], None]


class ReadingClient(ConnectingClient):
    """paho's client, with another reader of what comes.

    There is no public way to read it otherwise, so this overrides how paho reads, and leaves to it
    each packet that is no message, or one that is not as brokers send ours: what is malformed is
    refused as it always was.

    Attributes:
        judge: says what becomes of a message by its topic, the bytes of all of it and of its
            properties, and the moment.
        receive: takes a message; must only enqueue.
        before_reading: called before the network is read; may wait for a second.
    """

    judge: Judge
    receive: Receive
    before_reading: Callable[[], None]

    _unread = bytearray()
    _unread_of: object = None
    _acknowledgements = bytearray()
    _judgement: Judgement | None = None

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read what there is. On the network thread."""
        connection = self._sock
        if connection is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        self.before_reading()
        try:
            data = self._sock_recv(READ_AT_ONCE)
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        except OSError:
            data = b""
        if not data:
            return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        at = time.monotonic()
        self._last_bytes_received = at
        if self._unread_of is not connection:
            self._unread_of, self._unread = connection, bytearray()
            self._acknowledgements = bytearray()
        self._unread += data
        code = self._read_packets(connection, at)
        self._acknowledge()
        return code if not code or self._sock is None else self._loop_rc_handle(code)

    def _read_packets(self, connection: object, at: float) -> MQTTErrorCode:
        unread, begin = self._unread, 0
        size = len(unread)
        while size - begin >= 2:
            length, body = unread[begin + 1], begin + 2
            if length >= 0x80:
                try:
                    length, body = _read_integer(unread, begin + 1)
                except IndexError:
                    break
                except ValueError:
                    return MQTTErrorCode.MQTT_ERR_PROTOCOL
            end = body + length
            if end > size:
                break
            header = unread[begin]
            if header & 0xF0 != PUBLISH:
                code = self._left_to_paho(header, unread[body:end])
            else:
                code = self._read_message(header, body, end, at)
            begin = end
            if code or self._sock is not connection:
                self._unread = bytearray()
                return code
        del unread[:begin]
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _read_message(self, header: int, begin: int, end: int, at: float) -> MQTTErrorCode:
        unread = self._unread
        topic_end = begin + 2 + (unread[begin] << 8 | unread[begin + 1])
        numbered = header & 0x06
        section = topic_end + 2 if numbered else topic_end
        properties = unread[section] if section < end else 0
        if properties >= 0x80:
            properties = _length_at(unread, section)
        judgement = self.judge(bytes(unread[begin + 2 : topic_end]), end - begin, properties, at)
        if judgement is not None and judgement.refusal is not None and not judgement.told:
            if numbered == 2:
                self._acknowledgements += b"\x40\x02" + unread[topic_end:section]
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            if not numbered:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
        packet = bytes(unread[begin:end])
        if judgement is not None and judgement.refusal is not None:
            message = read_refused(header, packet)
        else:
            message = read_publish(header, packet)
        if message is None:
            self._judgement = judgement
            code = self._left_to_paho(header, bytearray(packet))
            if not code or judgement is None:
                return code
            # What a user wrote must not end our connection, whatever the broker lets through.
            log.warning(
                "dropped a message of %s that can't be read",
                judgement.user,
                extra={"subject": judgement.user},
            )
        else:
            self._hand_over(message, judgement)
        if numbered:
            self._acknowledgements += b"\x40\x02" + unread[topic_end:section]
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _left_to_paho(self, header: int, packet: bytearray) -> MQTTErrorCode:
        self._acknowledge()
        self._in_packet = {
            "command": header,
            "have_remaining": 1,
            "remaining_count": [],
            "remaining_mult": 1,
            "remaining_length": len(packet),
            "packet": packet,
            "to_process": 0,
            "pos": 0,
        }
        try:
            return self._packet_handle()
        except Exception as error:  # noqa: BLE001 (paho's own readers raise anything)
            log.warning("the broker sent a packet that is malformed: %r", error)
            return MQTTErrorCode.MQTT_ERR_PROTOCOL

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        """As paho does, but that most acknowledgements have no properties, which take it 25 µs."""
        packet = self._in_packet["packet"]
        reason = _REASONS.get(bytes(packet[2:4]))
        if cmd != "PUBACK" or reason is None or len(packet) < 2:
            return super()._handle_pubackcomp(cmd)
        with self._out_message_mutex:
            mid = packet[0] << 8 | packet[1]
            if mid in self._out_messages:
                return self._do_on_publish(mid, reason, _NOTHING)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_on_message(self, message: paho.MQTTMessage) -> None:
        self._hand_over(message, self._judgement)

    def _hand_over(self, message: paho.MQTTMessage, judgement: Judgement | None) -> None:
        try:
            self.receive(message, judgement)
        except Exception:
            log.exception("a message could not be taken")

    def _acknowledge(self) -> None:
        """Acknowledge all messages of quality 1 that have been read, in one piece."""
        if self._acknowledgements:
            acknowledgements, self._acknowledgements = self._acknowledgements, bytearray()
            self._packet_queue(PUBACK, acknowledgements, 0, 0)


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


def read_refused(header: int, packet: bytes) -> paho.MQTTMessage | None:
    """Of a message that is not taken, what it takes to tell its sender.

    That is where an answer is wanted, and the payload if it is no larger than a request's may be,
    for the id in it. However many properties there are, only the first few are looked at.

    Args:
        header: the packet's first byte.
        packet: what follows its length.
    """
    qos = header >> 1 & 3
    if qos > 1:
        return None
    topic_end = 2 + int.from_bytes(packet[:2])
    found: dict[str, Any] = {}
    payload_at = len(packet)
    try:
        length, at = _read_integer(packet, topic_end + (2 if qos else 0))
        payload_at = at + length
        found = _read_return_address(packet[at:payload_at])
    except (IndexError, ValueError):
        pass
    message = paho.MQTTMessage(
        mid=int.from_bytes(packet[topic_end : topic_end + 2]) if qos else 0,
        topic=bytes(packet[2:topic_end]),
    )
    message.qos = qos
    message.properties = ReceivedProperties(found)
    if len(packet) - payload_at <= LARGEST_REQUEST:
        message.payload = packet[payload_at:]
    return message


def _read_return_address(data: bytes) -> dict[str, Any]:
    """Of properties, those that say where an answer is wanted and for whom the message is.

    Raises:
        ValueError: one before them is malformed.
        IndexError: one ends early.
    """
    found: dict[str, Any] = {}
    at = 0
    for _ in range(MOST_PROPERTIES):
        if at >= len(data):
            break
        identifier, at = data[at : at + 1], at + 1
        if identifier == SUBSCRIPTION:
            number, at = _read_integer(data, at)
            found.setdefault("SubscriptionIdentifier", []).append(number)
        elif identifier == RESPONSE_TOPIC:
            found["ResponseTopic"], at = _read_text(data, at)
        elif identifier == CORRELATION:
            found["CorrelationData"], at = _read_counted(data, at)
        else:
            at = _skip_property(identifier, data, at)
    return found


def _skip_property(identifier: bytes, data: bytes, at: int) -> int:
    """Where the value ends that begins there (MQTT 5, section 2.2.2.2)."""
    if identifier == USER_PROPERTY:
        for _ in range(2):
            at += 2 + int.from_bytes(data[at : at + 2])
        return at
    if identifier == CONTENT_TYPE:
        return at + 2 + int.from_bytes(data[at : at + 2])
    return at + {PAYLOAD_FORMAT: 1, EXPIRY: 4, TOPIC_ALIAS: 2}.get(identifier, len(data))


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
        if identifier == SUBSCRIPTION:
            number, at = _read_integer(data, at)
            found.setdefault("SubscriptionIdentifier", []).append(number)
            continue
        if identifier == USER_PROPERTY:
            key, at = _read_text(data, at)
            text, at = _read_text(data, at)
            found.setdefault("UserProperty", []).append((key, text))
            continue
        value: int | bytes | str
        if identifier == EXPIRY:
            name, value, at = "MessageExpiryInterval", int.from_bytes(data[at : at + 4]), at + 4
        elif identifier == CORRELATION:
            name, (value, at) = "CorrelationData", _read_counted(data, at)
        elif identifier == RESPONSE_TOPIC:
            name, (value, at) = "ResponseTopic", _read_text(data, at)
        elif identifier == CONTENT_TYPE:
            name, (value, at) = "ContentType", _read_text(data, at)
        elif identifier == PAYLOAD_FORMAT:
            # Only 0 and 1 mean something, but brokers let any through, and paho ends with those.
            name, value, at = "PayloadFormatIndicator", data[at], at + 1
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


def _length_at(data: bytes | bytearray, at: int) -> int:
    """The variable byte integer there; of one that is malformed nothing can be said."""
    try:
        return _read_integer(data, at)[0]
    except (IndexError, ValueError):
        return 0
