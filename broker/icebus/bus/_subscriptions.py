"""Who wants which messages: handlers by topic filter, over any number of connections."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import ClassVar

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from icebus.bus._admission.admission import USER, Allow
from icebus.bus._messages import Incoming
from icebus.schemas.errors import IcebusError, NotAuthorized
from icebus.schemas.topics import Topic

Handler = Callable[[Incoming], None]
Refused = Callable[[Incoming, IcebusError], None]


@dataclass(frozen=True)
class FromUsers:
    """How the messages of users are taken, on topics that they may write.

    Attributes:
        allow: says how much each may send; on the network thread, so only what is known is said.
            None for the usual.
        refused: called on the dispatcher with some of the messages that were refused, and why, to
            tell those who sent them.
    """

    allow: Allow | None = None
    refused: Refused | None = None
    level: ClassVar[str] = USER


@dataclass(frozen=True)
class FromWorkers(FromUsers):
    """The same of workers, on topics that each writes in its own name: nobody may flood the others.

    What is taken keeps its order among all that comes. Nobody is told of a refusal but the log.
    """

    level: ClassVar[str] = "worker"


@dataclass(frozen=True)
class FromComponents(FromWorkers):
    """The same of components of whatever role, where they are called by their ``id``."""

    level: ClassVar[str] = "id"


@dataclass(frozen=True)
class FromSenders(FromWorkers):
    """The same of whoever sends to users, on topics that have them as ``sender``."""

    level: ClassVar[str] = "sender"


class Subscription:
    """A handler on a topic filter, until cancelled.

    Attributes:
        acknowledged: done when the broker has acknowledged; retained messages follow at once.
    """

    def __init__(
        self,
        topic: Topic,
        topic_filter: str,
        handler: Handler,
        refused: Refused | None,
        registry: Subscriptions,
        *,
        own: bool = True,
    ) -> None:
        self.topic = topic
        self.topic_filter = topic_filter
        self.handler = handler
        self.refused = refused
        self.own = own
        self.acknowledged: Future[None] = Future()
        self._registry = registry

    def cancel(self) -> None:
        """Stop: the handler is not called for messages that arrive from now on."""
        self._registry.remove(self)


class Subscriptions:
    """All subscriptions of one client.

    Each filter bears an MQTT 5 subscription identifier, so that overlapping filters are told apart
    and a message that the broker sends once for each reaches each handler once.

    Args:
        client: to subscribe with.
    """

    def __init__(self, client: paho.Client) -> None:
        self._client = client
        # Held over sending, so that subscribing and unsubscribing of a filter keep their order.
        self._lock = threading.Lock()
        self._connected = False
        self._identifiers: dict[str, int] = {}
        self._by_identifier: dict[int, list[Subscription]] = {}
        self._next_identifier = itertools.count(1)
        self._sent: set[int] = set()
        self._unacknowledged: dict[int, list[Subscription]] = {}

    def add(
        self,
        topic: Topic,
        topic_filter: str,
        handler: Handler,
        refused: Refused | None = None,
        *,
        own: bool = True,
    ) -> Subscription:
        """Subscribe, now or on the next connect."""
        subscription = Subscription(topic, topic_filter, handler, refused, self, own=own)
        with self._lock:
            if topic_filter not in self._identifiers:
                self._identifiers[topic_filter] = next(self._next_identifier)
            self._by_identifier.setdefault(self._identifiers[topic_filter], []).append(subscription)
            if self._connected:
                self._send(topic_filter, [subscription])
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Drop a subscription; the last of its filter unsubscribes."""
        with self._lock:
            identifier = self._identifiers.get(subscription.topic_filter, 0)
            sharing = self._by_identifier.get(identifier, [])
            if subscription not in sharing:
                return
            sharing.remove(subscription)
            if sharing:
                return
            del self._by_identifier[identifier], self._identifiers[subscription.topic_filter]
            if self._connected:
                self._client.unsubscribe(subscription.topic_filter)

    def matching(self, message: paho.MQTTMessage) -> list[Subscription]:
        """The subscriptions for which the broker has sent ``message``."""
        with self._lock:
            return [
                subscription
                for identifier in getattr(message.properties, "SubscriptionIdentifier", ())
                for subscription in self._by_identifier.get(identifier, ())
            ]

    def connected(self) -> None:
        """The connection is new: from now on what is added is sent."""
        with self._lock:
            self._sent.clear()
            self._connected = True

    def resubscribe(self) -> None:
        """Subscribe on the new connection to all that has not been."""
        with self._lock:
            for topic_filter, identifier in self._identifiers.items():
                if self._connected and identifier not in self._sent:
                    self._send(topic_filter, list(self._by_identifier[identifier]))

    def disconnected(self) -> None:
        """The connection is gone, or about to go."""
        with self._lock:
            self._connected = False
            self._unacknowledged.clear()

    def acknowledge(self, mid: int) -> list[Subscription]:
        """The subscriptions that the broker's acknowledgement of that number is for."""
        with self._lock:
            return self._unacknowledged.pop(mid, [])

    def fail(self, error: IcebusError) -> None:
        """Nothing that was not acknowledged will be."""
        with self._lock:
            waiting = [each for sharing in self._by_identifier.values() for each in sharing]
        for subscription in waiting:
            if not subscription.acknowledged.done():
                subscription.acknowledged.set_exception(error)

    def _send(self, topic_filter: str, subscriptions: list[Subscription]) -> None:
        # All of one filter are of one topic: no two topics are spelt alike.
        qos = subscriptions[0].topic.qos
        properties = Properties(PacketTypes.SUBSCRIBE)
        properties.SubscriptionIdentifier = self._identifiers[topic_filter]
        code, mid = self._client.subscribe(
            topic_filter,
            options=SubscribeOptions(qos=qos, noLocal=not subscriptions[0].own),
            properties=properties,
        )
        if code is MQTTErrorCode.MQTT_ERR_SUCCESS and mid is not None:
            self._sent.add(self._identifiers[topic_filter])
            self._unacknowledged[mid] = subscriptions


def complete(subscriptions: list[Subscription], *, failed: bool) -> None:
    """Complete what waits for the broker's acknowledgement."""
    for subscription in subscriptions:
        if subscription.acknowledged.done():
            continue
        if failed:
            subscription.acknowledged.set_exception(
                NotAuthorized(
                    f"the broker refused the subscription to {subscription.topic.template}"
                )
            )
        else:
            subscription.acknowledged.set_result(None)
