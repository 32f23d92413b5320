"""A request to a device and back, beside the least that this broker takes for one."""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable, Iterator

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bench import echo
from bench.farm import Farm
from bench.measure import Measure, median, quantile
from icebus.broker.access import Principal
from icebus.broker.process import Child
from icebus.bus import BrokerAddress
from icebus.client import PulseCountClient
from icebus.schemas.deadline import Deadline
from icebus.schemas.topics import Role

BLOCK = 50
"""Requests of one sort in a row: both sorts see the same ups and downs of the machine."""

TIMEOUT = 10.0


class RawClient:
    """Asks :mod:`bench.echo` with plain paho."""

    def __init__(self, url: str) -> None:
        address = BrokerAddress.parse(url)
        user = f"{address.root}/user/{address.user}"
        self._topic = f"{address.root}/worker/{echo.WORKER}/call/{address.user}/{echo.METHOD}"
        self._reply = f"{user}/client/raw/reply/{echo.WORKER}"
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._client = echo.connection(address)
        self._client.on_message = self._on_message
        self._client.subscribe(self._reply, qos=1)
        self._client.loop_start()

    def _on_message(
        self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage
    ) -> None:
        self._answers.put(bytes(message.payload))

    def ask(self) -> None:
        """One request and its answer."""
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = self._reply
        properties.CorrelationData = b"12345678"
        self._client.publish(self._topic, b"{}", qos=1, properties=properties)
        self._answers.get(timeout=TIMEOUT)

    def wait_answered(self) -> None:
        """Wait until somebody answers at all."""
        deadline = Deadline.after(TIMEOUT)
        while True:
            properties = Properties(PacketTypes.PUBLISH)
            properties.ResponseTopic = self._reply
            properties.CorrelationData = b"12345678"
            self._client.publish(self._topic, b"{}", qos=1, properties=properties)
            try:
                self._answers.get(timeout=0.2)
            except queue.Empty:
                if deadline.expired:
                    raise TimeoutError("the echo does not answer") from None
            else:
                return

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


def roundtrip(farm: Farm, client: PulseCountClient, number: int) -> Iterator[Measure]:
    """Both sorts of request in turns, so many of each."""
    url = farm.admit(Principal(id=echo.WORKER, role=Role.WORKER))
    child = Child([sys.executable, "-m", "bench.echo"], farm.log("echo"), {"ICEBUS_BROKER": url})
    raw = RawClient(farm.url)
    try:
        raw.wait_answered()
        with client.reserve(1) as board:
            plain: list[float] = []
            library: list[float] = []
            for _ in range(number // BLOCK + 1):
                plain += [_timed(raw.ask) for _ in range(BLOCK)]
                library += [
                    _timed(lambda: client.call(board, None, "status")) for _ in range(BLOCK)
                ]
    finally:
        raw.close()
        child.stop(Deadline.after(TIMEOUT))
    del plain[:BLOCK], library[:BLOCK]
    yield Measure("raw paho echo, p50", median(plain) * 1e3, "ms")
    yield Measure("request to a device, p50", median(library) * 1e3, "ms")
    yield Measure("request to a device, p99", quantile(library, 0.99) * 1e3, "ms")
    yield Measure(
        "request to a device / raw paho echo, p50", median(library) / median(plain), "×", 1.5
    )


def _timed(step: Callable[[], object]) -> float:
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun
