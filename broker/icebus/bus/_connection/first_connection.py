"""Connecting for the first time: trying until a deadline, and saying why it can't be done."""

from __future__ import annotations

import logging
import socket
import threading

import paho.mqtt.client as paho
from paho.mqtt.properties import Properties

from icebus.bus._broker_address.address import BrokerAddress
from icebus.bus._connection import reasons
from icebus.bus._connection.listener import look
from icebus.bus._connection.trouble import Trouble
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable, IcebusError

log = logging.getLogger(__name__)

KEEPALIVE = 10
"""Seconds: the broker declares a silent client dead after 1.5 times this."""

CONNECT_TIMEOUT = 2.0
"""Seconds to wait for a TCP connection, and then for TLS. A deadline that is nearer is missed by
that much, because paho keeps the value for every later reconnect."""

LOOK_TIME = 3.0
"""Seconds for a look at what does not take us in any more."""

LOOK_AFTER = 1.0
"""Seconds without an answer after which it is looked at what it is that does not answer."""


def open_connection(
    client: paho.Client,
    address: BrokerAddress,
    properties: Properties,
    trouble: Trouble,
    deadline: Deadline,
) -> None:
    """Open the TCP connection and ask the broker to take us in.

    Raises:
        BrokerUnavailable: nobody listens there, or somebody to whom it is futile to speak.
    """
    pause = threading.Event()
    delay = 0.05
    client.connect_timeout = CONNECT_TIMEOUT
    while True:
        try:
            _resolve(address, deadline)
            client.connect(address.host, address.port, keepalive=KEEPALIVE, properties=properties)
        except (OSError, UnicodeError) as failed:
            error = reasons.of_exception(address, failed)
            if address.tls and not isinstance(failed, ConnectionRefusedError):
                error = look_at_broker(client, address, deadline) or error
        except BrokerUnavailable as unresolved:
            error = unresolved
        else:
            return
        if reasons.cause_of(error) in reasons.FUTILE or deadline.remaining <= delay:
            raise error
        trouble.happened(error)
        pause.wait(delay)
        delay = min(1.0, delay * 2)


def why_not_taken_in(
    client: paho.Client, address: BrokerAddress, trouble: Trouble, deadline: Deadline
) -> IcebusError | None:
    """Wait for the broker to take us in; why it does not, or None once it has."""
    trouble.answered.wait(min(LOOK_AFTER, deadline.remaining))
    if not trouble.taken_in and trouble.lasting is None and not deadline.expired:
        found = look_at_broker(client, address, deadline)
        if found is not None and reasons.cause_of(found) in reasons.FUTILE:
            return found
        trouble.settled.wait(deadline.remaining)
    if trouble.taken_in:
        return None
    return trouble.lasting or trouble.refusal or reasons.silent(address)


def look_at_broker(
    client: paho.Client, address: BrokerAddress, deadline: Deadline
) -> BrokerUnavailable | None:
    """What is the matter with what listens there, as far as that can be seen by the deadline."""
    try:
        return look(address, client._ssl_context if address.tls else None, deadline)
    except BrokerUnavailable as found:
        return found


def _resolve(address: BrokerAddress, deadline: Deadline) -> None:
    """Look the host's name up: a name service that does not answer holds paho for a minute.

    Raises:
        OSError: it has no address.
        UnicodeError: it is no name.
        BrokerUnavailable: nobody says in time.
    """
    failed: list[OSError | UnicodeError] = []

    def ask() -> None:
        try:
            socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            failed.append(error)

    # It can't be stopped; it ends when the system's resolver does.
    asking = threading.Thread(target=ask, name="resolve", daemon=True)
    asking.start()
    asking.join(max(0.1, deadline.remaining))
    if asking.is_alive():
        raise reasons.unresolved(address, "the name service does not answer")
    if failed:
        raise failed[0]
