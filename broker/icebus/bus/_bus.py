"""The adapter over paho-mqtt that every component speaks through.

Two threads belong to a bus. paho's network thread runs callbacks that do nothing but enqueue: one
that blocks gets the client dropped by the broker, one that raises kills the thread silently. The
dispatcher thread takes from that queue and runs the subscribers' handlers, which must be quick and
may publish, but must not wait for anything that the dispatcher itself delivers.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from datetime import datetime

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import BaseModel

from icebus.bus import _subscriptions as subscriptions
from icebus.bus._admission.admission import Admission
from icebus.bus._broker_address.address import BrokerAddress
from icebus.bus._connection import acknowledgements, reasons
from icebus.bus._connection.acknowledgements import Acknowledgements
from icebus.bus._connection.first_connection import (
    LOOK_TIME,
    look_at_broker,
    open_connection,
    why_not_taken_in,
)
from icebus.bus._connection.identity import REPLACED, Identity
from icebus.bus._connection.tcp import HasDescriptor, close_after_reading, send_at_once
from icebus.bus._connection.tls import ends_of
from icebus.bus._connection.together import SendingClient
from icebus.bus._connection.trouble import Listener, Trouble
from icebus.bus._delivery import Delivery
from icebus.bus._dispatcher import Dispatcher
from icebus.bus._messages import Incoming, Root, Will, publish_properties
from icebus.bus._outgoing import Outgoing
from icebus.bus._subscriptions import FromUsers, Handler, Subscription, Subscriptions
from icebus.schemas.components import TrustedAuthorities
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    BrokerUnavailable,
    IcebusError,
)
from icebus.schemas.ids import to_id
from icebus.schemas.message import decode
from icebus.schemas.topics import AUTHORITY, Topic, TopicName

SESSION_EXPIRY = 300
"""Seconds the broker keeps the queue of a client that blinked."""

MQTT_MAXIMUM = 268_435_455
"""Bytes of the largest message that MQTT can carry."""

RECONNECT_MIN = 1.0
RECONNECT_MAX = 5.0

STEADY = 10.0
"""Seconds that a connection lasts of which nobody else has the id. When one that was briefer
follows another, somebody may end them who has come to know it. Under another id we are out of
reach; what the broker kept under the former is asked for again."""


def new_client_id(name: str) -> str:
    """An id for a connection to the broker that nobody can guess.

    Whoever connects under the id of another ends that other's connection, whatever their rights:
    it is told to nobody but the broker.

    Args:
        name: what it starts with, for the broker's log.
    """
    return f"{to_id(name)[:32]}-{secrets.token_hex(16)}"


class Bus:
    """A connection to the broker that survives the broker.

    It reconnects by itself, subscribes again on every connect, and sends QoS 1 messages published
    while it was away.

    Args:
        address: the broker, and who we are there.
        name: what the client id starts with; the rest is random, because of two clients of one id
            the later ends the earlier.
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
        self._name = name
        self.client_id = new_client_id(name)
        self._root = Root(address.root)
        self._acknowledgements = Acknowledgements()
        self._on_connected: list[Callable[[], None]] = []
        self._connected = threading.Event()
        self._connected_at = 0.0
        self._was_brief = False
        self._closing = False
        self._dispatcher = Dispatcher(f"bus-{to_id(name)}")
        self._trouble = Trouble(self.call_soon)

        prefix = self._root.absolute("")
        self._admission = Admission(prefix, self._dispatcher.users, self.call_later)

        self._client = SendingClient(
            CallbackAPIVersion.VERSION2, client_id=self.client_id, protocol=paho.MQTTv5
        )
        self._outgoing = Outgoing(self._client, self._root, self._acknowledgements)
        self._identity = Identity(self._client, address)
        self._client.suppress_exceptions = True
        self._client.reconnect_delay_set(
            RECONNECT_MIN + random.random(),  # type: ignore[arg-type]
            RECONNECT_MAX,  # type: ignore[arg-type]
        )
        if will is not None:
            self._client.will_set(
                self._root.absolute(will.topic),
                will.message.model_dump_json(),
                qos=will.topic.family.qos,
                retain=will.topic.family.retained,
                properties=will.properties,
            )
        self._client.on_socket_open = lambda _client, _userdata, sock: send_at_once(sock)
        self._client.on_socket_close = self._on_socket_close
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.judge = self._admission.judge
        self._client.before_reading = self._dispatcher.wait_for_room
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._connect_properties = Properties(PacketTypes.CONNECT)
        self._connect_properties.SessionExpiryInterval = session_expiry
        self._subscriptions = Subscriptions(self._client)
        self._client.receive = Delivery(self._root, self._subscriptions, self._dispatcher).take
        self._trouble.listen(self._on_problem)
        if address.tls and address.ca is not None:
            self.subscribe(AUTHORITY, self._on_authority)

    @property
    def address(self) -> BrokerAddress:
        """The broker, and who we are there; what stands in our credentials file by now."""
        return self._identity.address

    @property
    def credentials_replaced(self) -> bool:
        """Whether our credentials file has others by now, which the next connection uses."""
        return self._identity.replaced

    def expect_end(self, *, account: datetime | None, password: datetime | None) -> None:
        """Learn when the broker will refuse us, for whoever asks then why it does.

        Args:
            account: when our account ends; None for never.
            password: when our password ends, because it was replaced; None if it was not.
        """
        self._identity.account_ends, self._identity.password_ends = account, password

    # --- life -------------------------------------------------------------------------------

    def connect(self, deadline: Deadline) -> None:
        """Connect for the first time, trying until the deadline unless that is futile.

        Raises:
            BrokerUnavailable: no broker answered in time, or none that it makes sense to speak to;
                ``details['cause']`` says why.
            NotAuthorized: the broker refused the user or password.
        """
        self._dispatcher.start()
        try:
            open_connection(
                self._client, self.address, self._connect_properties, self._trouble, deadline
            )
        except BrokerUnavailable:
            self._dispatcher.stop()
            raise
        self._client.loop_start()
        problem = why_not_taken_in(self._client, self.address, self._trouble, deadline)
        if problem is None:
            return
        self._client.disconnect()
        self._client.loop_stop()
        self._dispatcher.stop()
        raise problem

    def close(self, deadline: Deadline) -> None:
        """Close without losing what was published.

        Waits for outstanding acknowledgements, and only then disconnects: a plain disconnect after
        500 publishes was seen to deliver 20 of them.
        """
        self._closing = True
        self._subscriptions.disconnected()
        if self.connected:
            self.flush(deadline)
        self._client.disconnect()
        self._client.loop_stop()
        self._dispatcher.stop()
        self._outgoing.closed = True
        # paho leaves what wakes its thread to the garbage collector, which warns of open sockets.
        self._client._reset_sockets()
        self._acknowledgements.fail_all(BrokerUnavailable("closed before the broker acknowledged"))

    def flush(self, deadline: Deadline) -> bool:
        """Wait until the broker has acknowledged all that was published; False when too late."""
        return self._acknowledgements.wait(deadline)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and the connection stands."""
        return self._connected.is_set()

    @property
    def connected_at(self) -> float:
        """When the broker last accepted us, on the monotonic clock; 0 before it ever did."""
        return self._connected_at

    @property
    def certificate_ends(self) -> float | None:
        """When the broker's certificate ends, as seconds since 1970; None without TLS."""
        return ends_of(self._client.socket())

    @property
    def problem(self) -> IcebusError | None:
        """Why there is no connection, as far as is known; None while there is one."""
        return self._trouble.error

    @property
    def refusal(self) -> IcebusError | None:
        """Why there will be no connection again: nobody need wait for what comes over it.

        :class:`NotAuthorized` when the broker knows this user no longer. The bus goes on trying,
        and this is None again should it be taken in all the same.
        """
        return self._trouble.lasting

    def on_problem(self, callback: Listener) -> None:
        """Run ``callback`` on the dispatcher with why there is no connection.

        Once for each cause until it is back, and now if it is away.
        """
        self._trouble.listen(callback)

    def on_connected(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the dispatcher after every connect, and now if connected."""
        self._on_connected.append(callback)
        if self.connected:
            self.call_soon(callback)

    # --- sending ----------------------------------------------------------------------------

    def publish(
        self,
        topic: TopicName,
        message: BaseModel | bytes,
        *,
        interval: float | None = None,
        deadline: Deadline | None = None,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        properties: dict[str, str] | None = None,
    ) -> Future[None]:
        """Send a message as its topic says; the future is done when the broker has acknowledged it.

        Args:
            topic: relative to the root.
            message: a model, sent as JSON, or raw bytes.
            interval: seconds until it is sent anew, where its expiry depends on that.
            deadline: of the request, where its expiry depends on that.
            response_topic: where an answer is wanted, relative to the root.
            correlation: bytes the answer brings back.
            properties: MQTT 5 user properties.

        Raises:
            MessageTooLarge: more than the broker takes. paho would send it again for ever.

        The future fails with :class:`NotAuthorized` when the access list refuses the topic. It is
        done on the network thread, so what is called then must only enqueue.
        """
        payload = message if isinstance(message, bytes) else message.model_dump_json().encode()
        expiry = topic.family.expiry.seconds(interval, deadline)
        response = None if response_topic is None else self._root.absolute(response_topic)
        return self._outgoing.send(
            topic, payload, publish_properties(expiry, response, correlation, properties)
        )

    def is_granted(self, topic: TopicName, root: str | None = None) -> Future[None]:
        """Say nothing at all on a topic that is not retained, to learn whether we may.

        The future is done when the broker has granted it, or fails with :class:`NotAuthorized`.

        Args:
            topic: relative to the root.
            root: another than ours.
        """
        future: Future[None] = Future()
        absolute = self._root.absolute(topic) if root is None else f"{root}/{topic}"
        # Gone after a second, for a broker that has a queue for somebody there.
        properties = publish_properties(1, None, None, None)
        info = self._client.publish(absolute, b"", qos=1, properties=properties)
        self._acknowledgements.expect(info.mid, future)
        return future

    def clear(self, topic: TopicName, *, properties: dict[str, str] | None = None) -> Future[None]:
        """Have the broker keep nothing on a retained topic; subscribers get an empty message.

        Raises:
            TypeError: the topic is not retained.
        """
        if not topic.family.retained:
            raise TypeError(f"{topic} is not retained: there is nothing to clear")
        return self._outgoing.send(topic, b"", publish_properties(None, None, None, properties))

    def together(self) -> AbstractContextManager[None]:
        """What the caller's thread publishes in the block goes out at its end, if not before."""
        return self._client.together()

    # --- receiving --------------------------------------------------------------------------

    def subscribe(
        self,
        topic: Topic,
        handler: Handler,
        users: FromUsers | None = None,
        /,
        *,
        shared: str = "",
        **ids: str,
    ) -> Subscription:
        """Have ``handler`` called on the dispatcher for every message of ``topic``.

        Of a family that users may write, those that send more than they may are refused.

        Args:
            topic: the family of topics.
            handler: quick, must not wait; what it raises is logged.
            users: how much of theirs is taken, where that is not the usual.
            shared: prefix of a shared subscription (``$share/group/``).
            ids: levels to fix; the others match anything.
        """
        topic_filter = shared + self._root.absolute(topic.filter(**ids))
        users = users or FromUsers()
        self._admission.watch(topic, users.allow, users.level)
        return self._subscriptions.add(topic, topic_filter, handler, users.refused)

    def subscribe_to_others(self, topic: Topic, handler: Handler) -> Subscription:
        """The same without what this bus publishes, on all topics of a family."""
        topic_filter = self._root.absolute(topic.filter())
        return self._subscriptions.add(topic, topic_filter, handler, own=False)

    # --- the dispatcher -----------------------------------------------------------------------

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the dispatcher soon."""
        self._dispatcher.call_soon(callback)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the dispatcher after ``seconds``."""
        self._dispatcher.call_later(seconds, callback)

    # --- paho's callbacks: on the network thread, enqueue only ---------------------------------

    def _on_socket_close(
        self, _client: paho.Client, _userdata: object, connection: HasDescriptor
    ) -> None:
        if self._closing:
            close_after_reading(connection)

    def _on_connect(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure and self._identity.replaced:
            self._trouble.happened(reasons.lost(self.address, REPLACED))
            return
        if reason.is_failure:
            known = self._identity
            self._trouble.refused(
                reasons.of_refusal(self.address, reason, known.account_ends, known.password_ends)
            )
            return
        # MQTT's own limit stands where the broker names none.
        self._outgoing.maximum = getattr(properties, "MaximumPacketSize", MQTT_MAXIMUM)
        self._subscriptions.connected()
        self._connected_at = time.monotonic()
        self._connected.set()
        self._trouble.over()
        self.call_soon(self._after_connect)

    def _on_authority(self, incoming: Incoming) -> None:
        if incoming.payload:
            said = decode(TrustedAuthorities, incoming.payload)
            self._identity.trust(said.certificates, self.call_later)

    def _after_connect(self) -> None:
        self._identity.mind_end(self.call_later)
        self._subscriptions.resubscribe()
        for callback in self._on_connected:
            # One callback that fails must not keep the others from running.
            self.call_soon(callback)

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if self._closing:
            pass
        elif self.connected:
            self._leave_an_id_that_is_known()
            # First, so that whoever finds us not connected finds the reason too.
            self._trouble.happened(reasons.lost(self.address, str(reason)))
        else:
            self._trouble.answered.set()
            self._trouble.investigate(self._look)
        self._connected.clear()
        self._subscriptions.disconnected()

    def _leave_an_id_that_is_known(self) -> None:
        brief = time.monotonic() - self._connected_at < STEADY
        if brief and self._was_brief:
            self.client_id = new_client_id(self._name)
            self._client.use_id(self.client_id)
        self._was_brief = brief

    def _look(self) -> IcebusError | None:
        return look_at_broker(self._client, self.address, Deadline.after(LOOK_TIME))

    def _on_connect_fail(self, _client: paho.Client, _userdata: object) -> None:
        if self._identity.replaced:
            self._trouble.happened(reasons.lost(self.address, REPLACED))
        elif (failed := self._client.connect_error) is not None:
            self._trouble.happened(reasons.of_exception(self.address, failed))

    def _on_problem(self, _error: IcebusError) -> None:
        if (refusal := self.refusal) is not None:
            self._subscriptions.fail(refusal)

    def _on_publish(
        self,
        _client: paho.Client,
        _userdata: object,
        mid: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        future = self._acknowledgements.acknowledge(mid, reason)
        if future is not None:
            acknowledgements.complete(future, reason)

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
        self.call_soon(lambda: subscriptions.complete(acknowledged, failed=failed))
