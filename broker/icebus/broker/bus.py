"""The adapter over paho-mqtt that every component speaks through.

Two threads belong to a bus. paho's network thread runs callbacks that do nothing but enqueue: one
that blocks gets the client dropped by the broker, one that raises kills the thread silently. The
dispatcher thread takes from that queue and runs the subscribers' handlers, which must be quick and
may publish, but must not wait for anything that the dispatcher itself delivers.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import math
import os
import platform
import queue
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions
from pydantic import BaseModel

from icebus.broker.address import BrokerAddress
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

_NOT_AUTHORIZED = 0x87
_REFUSED_CREDENTIALS = frozenset({0x86, _NOT_AUTHORIZED})


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


Handler = Callable[[Incoming], None]


class Subscription:
    """A handler on a topic filter, until cancelled.

    Attributes:
        acknowledged: done when the broker has acknowledged; retained messages follow at once.
    """

    def __init__(self, bus: Bus, topic: Topic, pattern: str, handler: Handler) -> None:
        self.topic = topic
        self.pattern = pattern
        self.handler = handler
        self.acknowledged: Future[None] = Future()
        self._bus = bus

    def cancel(self) -> None:
        """Stop: the handler is not called for messages that arrive from now on."""
        self._bus._unsubscribe(self)


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
        self._prefix = f"{address.root}/"
        self._lock = threading.Lock()
        self._identifiers: dict[str, int] = {}
        self._subscriptions: dict[int, list[Subscription]] = {}
        self._next_identifier = itertools.count(1)
        self._subscribed: set[int] = set()
        self._suback: dict[int, list[Subscription]] = {}
        self._unacked: dict[int, Future[None]] = {}
        self._early_acks: dict[int, ReasonCode] = {}
        self._on_connected: list[Callable[[], None]] = []
        self._connected = threading.Event()
        self._answered = threading.Event()
        self._refusal: ReasonCode | None = None
        self._maximum_packet = ASSUMED_MAXIMUM
        self._closing = False
        self._closed = False
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_order = itertools.count()
        self._dispatcher = threading.Thread(
            target=self._dispatch, name=f"bus-{to_id(name)}", daemon=True
        )

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
                self._prefix + will.topic, will.message.model_dump_json(), qos=1, retain=True
            )
        self._client.on_socket_open = self._socket_opened
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._connect_properties = Properties(PacketTypes.CONNECT)
        self._connect_properties.SessionExpiryInterval = session_expiry

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
                    self._stop_dispatcher()
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
        self._stop_dispatcher()
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
        if self._connected.is_set():
            if farewell is not None:
                self.publish(farewell.topic, farewell.message, retain=True)
            self.flush(deadline)
        self._client.disconnect()
        self._client.loop_stop()
        self._stop_dispatcher()
        with self._lock:
            self._closed = True
            unacked, self._unacked = list(self._unacked.values()), {}
        for future in unacked:
            if not future.done():
                future.set_exception(BrokerUnavailable("closed before the broker acknowledged"))

    def flush(self, deadline: Deadline) -> bool:
        """Wait until the broker has acknowledged all that was published; False when too late."""
        with self._lock:
            waiting = list(self._unacked.values())
        for future in waiting:
            try:
                future.exception(timeout=deadline.remaining)
            except TimeoutError:
                return False
        return True

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

        The future fails with :class:`NotAuthorized` when the access list refuses the topic.
        """
        payload = message if isinstance(message, bytes) else message.model_dump_json().encode()
        if len(payload) + HEADER_ALLOWANCE > self._maximum_packet:
            raise MessageTooLarge(
                f"{len(payload)} bytes for {topic}, but the broker takes "
                f"{self._maximum_packet - HEADER_ALLOWANCE}",
                size=len(payload),
                limit=self._maximum_packet - HEADER_ALLOWANCE,
            )
        options = Properties(PacketTypes.PUBLISH)
        if expiry is not None:
            # Whole seconds, and 0 would mean for ever.
            options.MessageExpiryInterval = max(1, math.ceil(expiry))
        if response_topic is not None:
            options.ResponseTopic = self._prefix + response_topic
        if correlation is not None:
            options.CorrelationData = correlation
        if properties:
            options.UserProperty = list(properties.items())
        info = self._client.publish(
            self._prefix + topic, payload, qos=qos, retain=retain, properties=options
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
        # The acknowledgement may come before publish() has returned the number it bears.
        with self._lock:
            code = self._early_acks.pop(info.mid, None)
            if code is None:
                self._unacked[info.mid] = future
        if code is not None:
            _settle(future, code)
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

        Each filter bears an MQTT 5 subscription identifier, so that overlapping filters are told
        apart and a message that the broker sends once for each reaches each handler once.
        """
        pattern = shared + self._prefix + topic.filter(**ids)
        subscription = Subscription(self, topic, pattern, handler)
        with self._lock:
            if pattern not in self._identifiers:
                self._identifiers[pattern] = next(self._next_identifier)
            identifier = self._identifiers[pattern]
            self._subscriptions.setdefault(identifier, []).append(subscription)
            if self.connected:
                self._send_subscribe(pattern, [subscription])
        return subscription

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            identifier = self._identifiers.get(subscription.pattern, 0)
            sharing = self._subscriptions.get(identifier, [])
            if subscription not in sharing:
                return
            sharing.remove(subscription)
            if sharing:
                return
            del self._subscriptions[identifier], self._identifiers[subscription.pattern]
            if self.connected and not self._closing:
                self._client.unsubscribe(subscription.pattern)

    def _send_subscribe(self, pattern: str, subscriptions: list[Subscription]) -> None:
        # Called with the lock held: one order of subscribing and unsubscribing for a filter.
        properties = Properties(PacketTypes.SUBSCRIBE)
        properties.SubscriptionIdentifier = self._identifiers[pattern]
        code, mid = self._client.subscribe(
            pattern, options=SubscribeOptions(qos=1), properties=properties
        )
        if code is MQTTErrorCode.MQTT_ERR_SUCCESS and mid is not None:
            self._subscribed.add(self._identifiers[pattern])
            self._suback[mid] = subscriptions

    # --- the dispatcher -----------------------------------------------------------------------

    def defer(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the dispatcher soon."""
        self._inbox.put(callback)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the dispatcher after ``seconds``."""
        due = time.monotonic() + seconds
        self._inbox.put(
            lambda: heapq.heappush(self._timers, (due, next(self._timer_order), callback))
        )

    def _dispatch(self) -> None:
        while True:
            callback = self._next()
            if callback is None:
                return
            try:
                callback()
            except Exception:
                log.exception("a deferred step failed")

    def _next(self) -> Callable[[], None] | None:
        """The next step: a timer that is due goes first, or a busy inbox would starve it."""
        while True:
            left = self._timers[0][0] - time.monotonic() if self._timers else None
            if left is not None and left <= 0:
                return heapq.heappop(self._timers)[2]
            try:
                return self._inbox.get(timeout=left)
            except queue.Empty:
                continue

    def _stop_dispatcher(self) -> None:
        self._inbox.put(None)
        if self._dispatcher.is_alive() and threading.current_thread() is not self._dispatcher:
            self._dispatcher.join(timeout=5)

    # --- paho's callbacks: on the network thread, enqueue only ---------------------------------

    def _socket_opened(self, _client: paho.Client, _userdata: object, sock: object) -> None:
        # Nagle's algorithm against delayed acknowledgements costs 40 ms a message. paho's
        # WebSocket wrapper has no setsockopt, so a duplicate of the descriptor gets it.
        with contextlib.suppress(OSError, AttributeError):
            twin = socket.socket(fileno=os.dup(sock.fileno()))  # type: ignore[attr-defined]
            try:
                twin.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            finally:
                twin.close()

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
        with self._lock:
            self._subscribed.clear()
            self._connected.set()
        self._answered.set()
        self._inbox.put(self._after_connect)

    def _after_connect(self) -> None:
        with self._lock:
            for pattern, identifier in self._identifiers.items():
                if identifier not in self._subscribed:
                    self._send_subscribe(pattern, list(self._subscriptions[identifier]))
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
        with self._lock:
            self._connected.clear()
            self._suback.clear()
        if not self._closing:
            log.warning("lost the broker, reconnecting: %s", reason)

    def _on_message(
        self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage
    ) -> None:
        self._inbox.put(lambda: self._deliver(message))

    def _deliver(self, message: paho.MQTTMessage) -> None:
        properties = message.properties
        topic = self._relative(message.topic)
        if topic is None:
            return
        response = getattr(properties, "ResponseTopic", None)
        for identifier in getattr(properties, "SubscriptionIdentifier", ()):
            with self._lock:
                subscriptions = list(self._subscriptions.get(identifier, ()))
            for subscription in subscriptions:
                ids = subscription.topic.parse(topic)
                if ids is None:
                    log.warning("ignored a message on a malformed topic: %s", topic)
                    continue
                incoming = Incoming(
                    topic=topic,
                    ids=ids,
                    payload=bytes(message.payload),
                    retained=message.retain,
                    response_topic=None if response is None else self._relative(response) or "",
                    correlation=getattr(properties, "CorrelationData", None),
                    properties=dict(getattr(properties, "UserProperty", ())),
                )
                try:
                    subscription.handler(incoming)
                except IcebusError as error:
                    log.warning("refused a message on %s: %s", topic, error)
                except Exception:
                    log.exception("a handler failed on %s", topic)

    def _relative(self, topic: str) -> str | None:
        return topic[len(self._prefix) :] if topic.startswith(self._prefix) else None

    def _on_publish(
        self,
        _client: paho.Client,
        _userdata: object,
        mid: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        with self._lock:
            future = self._unacked.pop(mid, None)
            if future is None:
                self._early_acks[mid] = reason
        if future is not None:
            self._inbox.put(lambda: _settle(future, reason))

    def _on_subscribe(
        self,
        _client: paho.Client,
        _userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        _properties: Properties,
    ) -> None:
        with self._lock:
            subscriptions = self._suback.pop(mid, [])
        failed = bool(reasons) and reasons[0].is_failure
        self._inbox.put(lambda: _acknowledge(subscriptions, failed=failed))


def _acknowledge(subscriptions: list[Subscription], *, failed: bool) -> None:
    for subscription in subscriptions:
        if subscription.acknowledged.done():
            continue
        if failed:
            subscription.acknowledged.set_exception(
                NotAuthorized(f"the broker refused the subscription to {subscription.pattern}")
            )
        else:
            subscription.acknowledged.set_result(None)


def _settle(future: Future[None], reason: ReasonCode) -> None:
    if future.done():
        return
    if reason.value == _NOT_AUTHORIZED:
        future.set_exception(NotAuthorized("the broker's access list refused the topic"))
    elif reason.is_failure:
        future.set_exception(BrokerUnavailable(f"the broker refused the message: {reason}"))
    else:
        future.set_result(None)


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
