"""Acknowledgements, which we read quicker than paho: they mean what they mean to paho."""

from __future__ import annotations

from typing import Any

import paho.mqtt.client as paho
import pytest
from tests.connections import published, soon, subscribed

from icebus.bus._connection.reading import ReadingClient
from icebus.schemas.errors import NotAuthorized
from icebus.schemas.topics import CLIENT_STATE, OPERATION, WORKER_KINDS


def test_given_paho_as_installed_then_it_calls_what_we_override() -> None:
    assert {"_handle_pubackcomp", "loop_read"} <= vars(ReadingClient).keys()
    assert {"_handle_pubackcomp", "loop_read"} <= vars(paho.Client).keys(), "it promises neither"


def test_given_acknowledgements_with_and_without_a_reason_then_each_ends_its_publish(
    connect: Any, inbox: Any
) -> None:
    bus = connect("alice")
    kept = inbox()
    subscribed(connect("main"), OPERATION, kept)
    for _ in range(20):
        published(bus, OPERATION(user="alice", operation="end"), b"{}", deadline=soon())
    unheard = CLIENT_STATE(user="alice", client="c1")
    published(bus, unheard, b"{}", interval=1.0)  # nobody subscribes to it: another reason
    for _ in range(20):
        published(bus, OPERATION(user="alice", operation="list"), b"{}", deadline=soon())
    kept.wait(40)
    refused = bus.publish(WORKER_KINDS(worker="w1"), b"{}")
    with pytest.raises(NotAuthorized):
        refused.result(timeout=5)
