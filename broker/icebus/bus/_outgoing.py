"""Sending messages that the broker can take, and learning what became of them."""

from __future__ import annotations

from concurrent.futures import Future

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties

from icebus.bus._connection.acknowledgements import Acknowledgements
from icebus.bus._messages import Root
from icebus.schemas.errors import BrokerUnavailable, MessageTooLarge
from icebus.schemas.topics import TopicName

ASSUMED_MAXIMUM = 2 << 20
"""Bytes of one message until the broker has said what it takes: what our own brokers do."""

HEADER_ALLOWANCE = 1024
"""Bytes kept free for topic and properties when a payload is held against the broker's maximum."""


class Outgoing:
    """What one connection sends.

    Args:
        client: paho's.
        root: that topics are relative to.
        acknowledgements: of the broker.

    Attributes:
        maximum: bytes of the largest message that the broker takes.
        closed: whether nothing is sent any more.
    """

    def __init__(self, client: paho.Client, root: Root, acknowledgements: Acknowledgements) -> None:
        self._client = client
        self._root = root
        self._acknowledgements = acknowledgements
        self.maximum = ASSUMED_MAXIMUM
        self.closed = False

    def send(self, topic: TopicName, payload: bytes, properties: Properties) -> Future[None]:
        """Send a message; the future is done when the broker has acknowledged it.

        Raises:
            MessageTooLarge: more than the broker takes. paho would send it again for ever.
        """
        limit = self.maximum - HEADER_ALLOWANCE
        if len(payload) > limit:
            raise MessageTooLarge(
                f"{len(payload)} bytes for {topic}, but the broker takes {limit}",
                size=len(payload),
                limit=limit,
            )
        future: Future[None] = Future()
        if self.closed:
            future.set_exception(BrokerUnavailable("the connection was closed"))
            return future
        qos = topic.family.qos
        info = self._client.publish(
            self._root.absolute(topic),
            payload,
            qos=qos,
            retain=topic.family.retained,
            properties=properties,
        )
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
            future.set_exception(BrokerUnavailable(f"could not publish: {info.rc.name}"))
            return future
        if info.rc is MQTTErrorCode.MQTT_ERR_NO_CONN and qos == 0:
            future.set_exception(BrokerUnavailable("not connected: QoS 0 messages are lost"))
            return future
        self._acknowledgements.expect(info.mid, future)
        return future
