"""Connecting for the first time: trying until a deadline, and saying why it can't be done."""

from __future__ import annotations

import threading

import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from icebus.bus._acknowledgements import NOT_AUTHORIZED
from icebus.bus._address import BrokerAddress
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable, IcebusError, NotAuthorized

KEEPALIVE = 10
"""Seconds: the broker declares a silent client dead after 1.5 times this."""

CONNECT_TIMEOUT = (2.0, 5.0)
"""Least and most seconds to wait for a TCP connection; a deadline nearer than the least is missed
by that much, because paho keeps the value for every later reconnect."""

REFUSED_CREDENTIALS = frozenset({0x86, NOT_AUTHORIZED})
"""Reason codes that trying again does not change."""


def open_connection(
    client: paho.Client, address: BrokerAddress, properties: Properties, deadline: Deadline
) -> None:
    """Open the TCP connection and ask the broker to take us in.

    Raises:
        BrokerUnavailable: nobody listens there.
    """
    pause = threading.Event()
    delay = 0.05
    least, most = CONNECT_TIMEOUT
    client.connect_timeout = max(least, min(most, deadline.remaining))
    while True:
        try:
            client.connect(address.host, address.port, keepalive=KEEPALIVE, properties=properties)
        except OSError as error:
            if deadline.remaining <= delay:
                raise BrokerUnavailable(
                    f"no broker answers at {address.host}:{address.port} ({error}); is the farm "
                    "up? `icebus up` starts one on this machine",
                    host=address.host,
                    port=address.port,
                ) from None
            pause.wait(delay)
            delay = min(1.0, delay * 2)
        else:
            return


def why_not_connected(address: BrokerAddress, refusal: ReasonCode | None) -> IcebusError:
    """The error for a broker that took the TCP connection and no more."""
    where = f"{address.host}:{address.port}"
    if refusal is None:
        return BrokerUnavailable(
            f"{where} took the connection but did not answer; is it an MQTT 5 broker?",
            host=address.host,
            port=address.port,
        )
    if refusal.value in REFUSED_CREDENTIALS:
        return NotAuthorized(
            f"the broker at {where} refused user {address.user!r} ({refusal}); "
            "check the user and password of the URL or profile",
            user=address.user,
        )
    return BrokerUnavailable(f"the broker at {where} refused the connection: {refusal}")
