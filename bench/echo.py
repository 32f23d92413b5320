"""Answers whatever it is asked with what it was asked: the least that a request can cost.

``python -m bench.echo``, with the broker's URL in ``ICEBUS_BROKER``. Plain paho, nothing of ours in
between; only the delay of small packets is turned off, as nobody measures without.
"""

from __future__ import annotations

import os

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from icebus.bus import BrokerAddress
from icebus.bus._connection.tcp import send_at_once

WORKER = "echo"
METHOD = "echo"


def connection(address: BrokerAddress) -> paho.Client:
    """A connected plain client."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.username_pw_set(address.user, address.password)
    client.on_socket_open = lambda _client, _userdata, sock: send_at_once(sock)
    client.connect(address.host, address.port)
    return client


def _answer(client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
    asked = message.properties
    properties = Properties(PacketTypes.PUBLISH)
    properties.CorrelationData = asked.CorrelationData  # type: ignore[union-attr]
    topic = asked.ResponseTopic  # type: ignore[union-attr]
    client.publish(topic, message.payload, qos=1, properties=properties)


def main() -> None:
    """Answer until ended."""
    address = BrokerAddress.parse(os.environ["ICEBUS_BROKER"])
    client = connection(address)
    client.on_message = _answer
    client.subscribe(f"{address.root}/worker/{WORKER}/call/+/{METHOD}", qos=1)
    client.loop_forever()


if __name__ == "__main__":
    main()
