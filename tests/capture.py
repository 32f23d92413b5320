"""Capturing what crosses a broker as any program sees it, with paho alone."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from icebus.bus import BrokerAddress
from icebus.schemas.topics import Topic, TopicName, read_topic


@dataclass(frozen=True)
class Captured:
    """A message, and how it was carried.

    Attributes:
        expiry: seconds that were left of it; None for ever.
    """

    topic: TopicName
    payload: bytes
    retained: bool
    qos: int
    expiry: int | None


class Capture:
    """All that is published on some topics from now on, until the end of the block."""

    def __init__(self, address: BrokerAddress, topics: Iterable[Topic]) -> None:
        self._address = address
        self._patterns = [f"{address.root}/{topic.filter()}" for topic in topics]
        self._messages: list[Captured] = []
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.username_pw_set(address.user, address.password)
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.on_message = self._on_message
        self._client = client

    def __enter__(self) -> Self:
        self._client.connect(self._address.host, self._address.port)
        self._client.loop_start()
        options = SubscribeOptions(
            qos=1,
            retainAsPublished=True,
            retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND,
        )
        self._client.subscribe([(pattern, options) for pattern in self._patterns])
        assert self._subscribed.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def of(self, topic: Topic, count: int = 1, seconds: float = 20) -> list[Captured]:
        """The messages of a family, once there are as many."""

        def found() -> list[Captured]:
            return [each for each in self._messages if each.topic.family is topic]

        with self._changed:
            came = self._changed.wait_for(lambda: len(found()) >= count, seconds)
            assert came, f"{len(found())} of {count} came on {topic.template}"
            return found()

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        captured = Captured(
            topic=read_topic(message.topic.removeprefix(f"{self._address.root}/")),
            payload=bytes(message.payload),
            retained=message.retain,
            qos=message.qos,
            expiry=getattr(message.properties, "MessageExpiryInterval", None),
        )
        with self._changed:
            self._messages.append(captured)
            self._changed.notify_all()
