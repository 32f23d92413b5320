"""What a broker retains, read once and as JSON: on the caller's thread."""

from __future__ import annotations

import json
import os
import secrets
import ssl
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from icebus.client.cli.completing.where import Broker

Retained: TypeAlias = dict[str, list[tuple[list[str], Mapping[str, Any]]]]
"""By the name of their family: the levels of the topic that were free, and the message."""

STEP = 0.05
"""Seconds that paho waits for more at a time."""


class NotToldError(Exception):
    """The broker is away, or does not let us in."""


def read_retained(broker: Broker, families: Mapping[str, str], seconds: float) -> Retained:
    """What is retained of some families of topics.

    A broker answers a subscription with all that it retains; by the time that it has confirmed
    that the subscription is gone again, that has been sent.

    Args:
        broker: where, and as whom.
        families: what to subscribe to for each, behind the root.
        seconds: for all of it.

    Raises:
        NotToldError: it did not answer in time, or refused us.
        OSError: it can't be reached.
    """
    deadline = time.monotonic() + seconds
    found: Retained = {name: [] for name in families}
    filters = {f"{broker.root}/{family}": name for name, family in families.items()}
    over: list[bool] = []

    # As what the bus names its connections, for the broker's log and its rights.
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"{broker.user}-tab"[:32] + f"-{secrets.token_hex(16)}",
        protocol=paho.MQTTv5,
    )
    client.username_pw_set(broker.login, broker.password or None)
    if broker.tls:
        client.tls_set_context(_context(broker))
    client.connect_timeout = seconds

    def on_connect(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            over.append(False)
        else:
            client.subscribe([(each, 0) for each in filters])

    def on_subscribe(*_arguments: Any) -> None:
        client.unsubscribe(list(filters))

    def on_message(_client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        for each, name in filters.items():
            if (levels := _free_levels(each, message.topic)) is not None:
                _keep(found[name], levels, message.payload)

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = on_message
    client.on_unsubscribe = lambda *_arguments: over.append(True)
    client.connect(broker.host, broker.port)
    try:
        while not over:
            left = deadline - time.monotonic()
            if left <= 0 or client.loop(min(STEP, left)) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
    finally:
        client.disconnect()
    if over != [True]:
        raise NotToldError
    return found


def _keep(
    known: list[tuple[list[str], Mapping[str, Any]]], levels: list[str], payload: bytes | bytearray
) -> None:
    try:
        message = json.loads(payload)
    except ValueError:
        return  # whoever asks a component is told of it; a prompt is no place for that
    if isinstance(message, dict):
        known.append((levels, message))


def _free_levels(pattern: str, topic: str) -> list[str] | None:
    """The levels of a topic in the places of ``+``; None where the pattern is another's."""
    ours, theirs = pattern.split("/"), topic.split("/")
    if len(ours) != len(theirs):
        return None
    pairs = list(zip(ours, theirs, strict=True))
    if any(one not in ("+", other) for one, other in pairs):
        return None
    return [other for one, other in pairs if one == "+"]


def _context(broker: Broker) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=broker.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if broker.certificate and broker.key:
        # Python's ssl reads certificates from files only.
        with tempfile.TemporaryDirectory(prefix="icebus-") as folder:
            ours = Path(folder, "ours.pem")
            descriptor = os.open(ours, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{broker.key.strip()}\n{broker.certificate.strip()}\n")
            context.load_cert_chain(ours, password=lambda: "")
    return context
