"""The adapter over paho-mqtt that every component speaks through.

Two threads belong to a bus. paho's network thread runs callbacks that do nothing but enqueue: one
that blocks gets the client dropped by the broker, one that raises kills the thread silently. The
dispatcher thread takes from that queue and runs the subscribers' handlers, which must be quick and
may publish, but must not wait for anything that the dispatcher itself delivers.
"""

from __future__ import annotations

import logging
import platform
import random
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import BaseModel

from icebus.bus import _acknowledgements as acknowledgements
from icebus.bus import _subscriptions as subscriptions
from icebus.bus._acknowledgements import NOT_AUTHORIZED, Acknowledgements
from icebus.bus._address import BrokerAddress
from icebus.bus._dispatcher import Dispatcher
from icebus.bus._messages import Root, Will, incoming, publish_properties
from icebus.bus._subscriptions import Handler, Subscription, Subscriptions
from icebus.bus._tcp import send_at_once
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    BrokerUnavailable,
    DeadlineExceeded,
    IcebusError,
    MessageTooLarge,
    NotAuthorized,
)
from icebus.schemas.ids import to_id
from icebus.schemas.topics import Topic

log = logging.getLogger(__name__)

KEEPALIVE = 10
"""Seconds: the broker declares a silent client dead after 1.5 times this."""

SESSION_EXPIRY = 300
"""Seconds the broker keeps the queue of a client that blinked."""

MQTT_MAXIMUM = 268_435_455
"""Bytes of the largest message that MQTT can carry."""

ASSUMED_MAXIMUM = 2 << 20
"""Bytes of one message until the broker has said what it takes: what our own brokers do."""

HEADER_ALLOWANCE = 1024
"""Bytes kept free for topic and properties when a payload is held against the broker's maximum."""

RECONNECT_MIN = 1.0
RECONNECT_MAX = 5.0

CONNECT_TIMEOUT = (2.0, 5.0)
"""Least and most seconds to wait for a TCP connection; a deadline nearer than the least is missed
by that much, because paho keeps the value for every later reconnect."""

_REFUSED_CREDENTIALS = frozenset({0x86, NOT_AUTHORIZED})


class Bus:
    """A connection to the broker that survives the broker.

    It reconnects by itself, subscribes again on every connect, and sends QoS 1 messages published
    while it was away.

    Args:
        address: the broker, and who we are there.
        name: what the client id starts with; the rest makes it unique, because two clients of one
            id kick each other for ever.
        will: what the broker says when we die.
        session_expiry: seconds the broker keeps our queue while we are away.
    """

    def __init__(
        self,
        address: BrokerAddress,
        name: str,
        will: Will | None = None,
        session_expiry: int = SESSION_EXPIRY,
    ) -> None:
        self.address = address
        self.client_id = f"{to_id(name)}-{to_id(platform.node())[:20]}-{uuid.uuid4().hex[:12]}"
        self._root = Root(address.root)
        self._acknowledgements = Acknowledgements()
        self._on_connected: list[Callable[[], None]] = []
        self._connected = threading.Event()
        self._answered = threading.Event()
        self._refusal: ReasonCode | None = None
        self._maximum_packet = ASSUMED_MAXIMUM
        self._closing = False
        self._closed = False
        self._dispatcher = Dispatcher(f"bus-{to_id(name)}")

        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=self.client_id, protocol=paho.MQTTv5
        )
        self._client.username_pw_set(address.user, address.password)
        self._client.suppress_exceptions = True
        self._client.reconnect_delay_set(
            RECONNECT_MIN + random.random(),  # type: ignore[arg-type]
            RECONNECT_MAX,  # type: ignore[arg-type]
        )
        if address.tls:
            self._client.tls_set()
        if will is not None:
            self._client.will_set(
                self._root.absolute(will.topic),
                will.message.model_dump_json(),
                qos=1,
                retain=True,
                properties=will.properties,
            )
        self._client.on_socket_open = lambda _client, _userdata, sock: send_at_once(sock)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._connect_properties = Properties(PacketTypes.CONNECT)
        self._connect_properties.SessionExpiryInterval = session_expiry
        self._subscriptions = Subscriptions(self._client)

    # --- life -------------------------------------------------------------------------------

    def connect(self, deadline: Deadline) -> None:
        """Connect for the first time, trying until the deadline.

        Raises:
            BrokerUnavailable: nothing answered in time.
            NotAuthorized: the broker refused the user or password.
        """
        self._dispatcher.start()
        where = f"{self.address.host}:{self.address.port}"
        pause = threading.Event()
        delay = 0.05
        least, most = CONNECT_TIMEOUT
        self._client.connect_timeout = max(least, min(most, deadline.remaining))
        while True:
            try:
                self._client.connect(
                    self.address.host,
                    self.address.port,
                    keepalive=KEEPALIVE,
                    properties=self._connect_properties,
                )
                break
            except OSError as error:
                if deadline.remaining <= delay:
                    self._dispatcher.stop()
                    raise BrokerUnavailable(
                        f"no broker answers at {where} ({error}); is the farm up? "
                        "`icebus up` starts one on this machine",
                        host=self.address.host,
                        port=self.address.port,
                    ) from None
                pause.wait(delay)
                delay = min(1.0, delay * 2)
        self._client.loop_start()
        self._answered.wait(deadline.remaining)
        if self.connected:
            return
        refusal = self._refusal
        self._client.disconnect()
        self._client.loop_stop()
        self._dispatcher.stop()
        if refusal is None:
            raise BrokerUnavailable(
                f"{where} took the connection but did not answer; is it an MQTT 5 broker?",
                host=self.address.host,
                port=self.address.port,
            )
        if refusal.value in _REFUSED_CREDENTIALS:
            raise NotAuthorized(
                f"the broker at {where} refused user {self.address.user!r} ({refusal}); "
                "check the user and password of the URL or profile",
                user=self.address.user,
            )
        raise BrokerUnavailable(f"the broker at {where} refused the connection: {refusal}")

    def close(self, deadline: Deadline, farewell: Will | None = None) -> None:
        """Close without losing what was published.

        Waits for outstanding acknowledgements, says ``farewell`` (retained), and only then
        disconnects: a plain disconnect after 500 publishes was seen to deliver 20 of them.
        """
        self._closing = True
        self._subscriptions.disconnected()
        if self._connected.is_set():
            if farewell is not None:
                self.publish(farewell.topic, farewell.message, retain=True)
            self.flush(deadline)
        self._client.disconnect()
        self._client.loop_stop()
        self._dispatcher.stop()
        self._closed = True
        self._acknowledgements.abandon(BrokerUnavailable("closed before the broker acknowledged"))

    def flush(self, deadline: Deadline) -> bool:
        """Wait until the broker has acknowledged all that was published; False when too late."""
        return self._acknowledgements.wait(deadline)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and the connection stands."""
        return self._connected.is_set()

    def on_connected(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the dispatcher after every connect, and now if connected."""
        self._on_connected.append(callback)
        if self.connected:
            self.defer(callback)

    # --- sending ----------------------------------------------------------------------------

    def publish(
        self,
        topic: str,
        message: BaseModel | bytes,
        *,
        retain: bool = False,
        qos: int = 1,
        expiry: float | None = None,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        properties: dict[str, str] | None = None,
    ) -> Future[None]:
        """Send a message; the future is done when the broker has acknowledged it.

        Args:
            topic: relative to the root.
            message: a model, sent as JSON, or raw bytes; empty bytes clear a retained topic.
            retain: whether the broker keeps it for later subscribers.
            qos: 1 for all that matters.
            expiry: seconds after which the broker drops it undelivered.
            response_topic: where an answer is wanted, relative to the root.
            correlation: bytes the answer brings back.
            properties: MQTT 5 user properties.

        Raises:
            MessageTooLarge: more than the broker takes. paho would send it again for ever.

        The future fails with :class:`NotAuthorized` when the access list refuses the topic. It is
        done on the network thread, so what is called then must only enqueue.
        """
        payload = message if isinstance(message, bytes) else message.model_dump_json().encode()
        if len(payload) + HEADER_ALLOWANCE > self._maximum_packet:
            raise MessageTooLarge(
                f"{len(payload)} bytes for {topic}, but the broker takes "
                f"{self._maximum_packet - HEADER_ALLOWANCE}",
                size=len(payload),
                limit=self._maximum_packet - HEADER_ALLOWANCE,
            )
        response = None if response_topic is None else self._root.absolute(response_topic)
        info = self._client.publish(
            self._root.absolute(topic),
            payload,
            qos=qos,
            retain=retain,
            properties=publish_properties(expiry, response, correlation, properties),
        )
        future: Future[None] = Future()
        if self._closed:
            future.set_exception(BrokerUnavailable("the connection was closed"))
            return future
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
            future.set_exception(BrokerUnavailable(f"could not publish: {info.rc.name}"))
            return future
        if info.rc is MQTTErrorCode.MQTT_ERR_NO_CONN and qos == 0:
            future.set_exception(BrokerUnavailable("not connected: QoS 0 messages are lost"))
            return future
        self._acknowledgements.expect(info.mid, future)
        return future

    # --- receiving --------------------------------------------------------------------------

    def subscribe(
        self, topic: Topic, handler: Handler, *, shared: str = "", **ids: str
    ) -> Subscription:
        """Have ``handler`` called on the dispatcher for every message of ``topic``.

        Args:
            topic: the family of topics.
            handler: quick, must not wait; what it raises is logged.
            shared: prefix of a shared subscription (``$share/group/``).
            ids: levels to fix; the others match anything.
        """
        pattern = shared + self._root.absolute(topic.filter(**ids))
        return self._subscriptions.add(topic, pattern, handler)

    # --- the dispatcher -----------------------------------------------------------------------

    def defer(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the dispatcher soon."""
        self._dispatcher.defer(callback)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the dispatcher after ``seconds``."""
        self._dispatcher.call_later(seconds, callback)

    # --- paho's callbacks: on the network thread, enqueue only ---------------------------------

    def _on_connect(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            log.warning("the broker refused the connection: %s", reason)
            self._refusal = reason
            if reason.value in _REFUSED_CREDENTIALS:
                self._answered.set()
            return
        self._refusal = None
        # MQTT's own limit stands where the broker names none.
        self._maximum_packet = getattr(properties, "MaximumPacketSize", MQTT_MAXIMUM)
        self._subscriptions.connected()
        self._connected.set()
        self._answered.set()
        self.defer(self._after_connect)

    def _after_connect(self) -> None:
        self._subscriptions.renew()
        for callback in self._on_connected:
            # One callback that fails must not keep the others from running.
            self.defer(callback)

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._connected.clear()
        self._subscriptions.disconnected()
        if not self._closing:
            log.warning("lost the broker, reconnecting: %s", reason)

    def _on_message(
        self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage
    ) -> None:
        self.defer(lambda: self._deliver(message))

    def _deliver(self, message: paho.MQTTMessage) -> None:
        topic = self._root.relative(message.topic)
        if topic is None:
            return
        for subscription in self._subscriptions.of(message):
            ids = subscription.topic.parse(topic)
            if ids is None:
                log.warning("ignored a message on a malformed topic: %s", topic)
                continue
            try:
                subscription.handler(incoming(self._root, topic, ids, message))
            except IcebusError as error:
                log.warning("refused a message on %s: %s", topic, error)
            except Exception:
                log.exception("a handler failed on %s", topic)

    def _on_publish(
        self,
        _client: paho.Client,
        _userdata: object,
        mid: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        future = self._acknowledgements.arrived(mid, reason)
        if future is not None:
            acknowledgements.settle(future, reason)

    def _on_subscribe(
        self,
        _client: paho.Client,
        _userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        _properties: Properties,
    ) -> None:
        acknowledged = self._subscriptions.acknowledge(mid)
        failed = bool(reasons) and reasons[0].is_failure
        self.defer(lambda: subscriptions.settle(acknowledged, failed=failed))


T = TypeVar("T")


def wait(future: Future[T], deadline: Deadline, what: str) -> T:
    """The future's result by the deadline.

    Raises:
        DeadlineExceeded: it was not done in time; ``what`` says what was waited for.
    """
    try:
        return future.result(timeout=deadline.remaining)
    except DeadlineExceeded:
        raise
    except TimeoutError:
        raise DeadlineExceeded(f"{what} did not answer in time") from None
