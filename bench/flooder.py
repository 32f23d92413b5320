"""A user who sends messages as fast as the broker takes them, or so many a second, until stopped.

``ICEBUS_BROKER=mqtt://… python -m bench.flooder operation --worker worker0 --rate 1000``. It speaks
MQTT by itself: a client library would be the slower side.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated

import typer

from bench.flood_topics import Flood, messages
from bench.held_topics import HeldFlood, held_messages, read_held
from icebus.bus import BrokerAddress
from icebus.schemas.programs.signals import wait_told

BATCH = 100
"""Messages handed to the system at once, where nothing limits them."""

BATCH_BYTES = 1 << 20
"""Likewise, beyond which no more are put together: a broker that takes no more is told of soon."""

BEGINS = "begins"
"""What is said once the first messages are sent."""

SAY_EVERY = 0.5
"""Seconds between two times that it is said how many were sent."""

TICK = 0.01
"""Seconds between those of a rate."""

WINDOW = 20
"""Messages of quality 1 under way at most: what brokers take."""


def connect(address: BrokerAddress) -> socket.socket:
    """A connection that the broker has accepted (MQTT 5, section 3.1)."""
    connection = socket.create_connection((address.host, address.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    session = b"\x11" + (60).to_bytes(4, "big")
    body = text("MQTT") + b"\x05\xc2" + (600).to_bytes(2, "big")
    body += integer(len(session)) + session + text(f"flood-{os.getpid()}")
    body += text(address.user) + text(address.password)
    connection.sendall(b"\x10" + integer(len(body)) + body)
    answer = connection.recv(4096)
    if len(answer) < 4 or answer[0] != 0x20 or answer[3] != 0:
        raise ConnectionError(f"the broker refuses {address.user}: {answer[:4].hex()}")
    return connection


def integer(value: int) -> bytes:
    """A variable byte integer (MQTT 5, section 1.5.5)."""
    made = b""
    while True:
        value, low = divmod(value, 128)
        made += bytes([low | (0x80 if value else 0)])
        if not value:
            return made


def text(value: str) -> bytes:
    """Text as it stands in packets."""
    encoded = value.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def publish(
    topic: str,
    payload: bytes,
    answer: str | None,
    qos: int,
    number: int,
    *,
    retain: bool,
    user: Mapping[str, str],
) -> bytes:
    """A PUBLISH packet (MQTT 5, section 3.3)."""
    properties = b"\x02" + (30).to_bytes(4, "big")
    if answer is not None:
        properties += b"\x08" + text(answer) + b"\x09" + text("flood")
    for name, value in user.items():
        properties += b"\x26" + text(name) + text(value)
    mid = (number % 65_535 + 1).to_bytes(2, "big") if qos else b""
    body = text(topic) + mid + integer(len(properties)) + properties + payload
    return bytes([0x30 | qos << 1 | retain]) + integer(len(body)) + body


class Acknowledged:
    """Counts the acknowledgements, and reads what else the broker sends."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.count = 0
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def wait(self, sent: int) -> None:
        """Wait until no more than the window is under way."""
        with self.changed:
            self.changed.wait_for(lambda: sent - self.count < WINDOW, 10)

    def _read(self) -> None:
        unread = b""
        while data := self._connection.recv(1 << 16):
            unread += data
            acknowledged, at = 0, 0
            while len(unread) - at >= 2:
                length, shift, body = 0, 0, at + 1
                while body < len(unread):
                    length |= (unread[body] & 0x7F) << shift
                    shift, body = shift + 7, body + 1
                    if unread[body - 1] < 0x80:
                        break
                if body + length > len(unread):
                    break
                acknowledged += unread[at] & 0xF0 == 0x40
                at = body + length
            unread = unread[at:]
            with self.changed:
                self.count += acknowledged
                self.changed.notify_all()


def flood(
    connection: socket.socket,
    packets: Iterator[bytes],
    rate: float,
    stop: threading.Event,
    before_each: Callable[[int], None] | None,
) -> None:
    """Send until told to stop; says how many now and then, for the broker may take no more."""
    sent, begun = 0, time.monotonic()
    say_at = begun
    sys.stdout.write(f"{BEGINS}\n")
    while not stop.is_set():
        if before_each is not None and not rate:
            before_each(sent)
            due = 1
        else:
            due = int(rate * (time.monotonic() - begun)) - sent if rate else BATCH
        if due > 0:
            batch = b""
            taken = 0
            while taken < due and len(batch) < BATCH_BYTES:
                batch += next(packets)
                taken += 1
            connection.sendall(batch)
            sent += taken
            if time.monotonic() >= say_at:
                say_at = time.monotonic() + SAY_EVERY
                sys.stdout.write(f"{sent}\n")
                sys.stdout.flush()
        else:
            stop.wait(TICK)
    sys.stdout.write(f"{sent}\n")
    sys.stdout.flush()


def main(
    kind: Annotated[str, typer.Argument(help="A topic, or what is done to boards.")],
    worker: Annotated[str, typer.Option(help="Whose topics to flood.")] = "worker0",
    rate: Annotated[float, typer.Option(help="Messages a second; 0 for no limit.")] = 0,
    size: Annotated[int, typer.Option(help="Bytes of a payload, at least.")] = 0,
    qos: Annotated[int, typer.Option(min=0, max=1)] = 0,
    held: Annotated[str, typer.Option(help="Boards: reservation:serial,serial.")] = "",
) -> None:
    """Flood until told to stop, and say how many messages that are."""
    address = BrokerAddress.parse(os.environ["ICEBUS_BROKER"])
    connection = connect(address)
    acknowledged = Acknowledged(connection)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    if held:
        sent_by = held_messages(HeldFlood(kind), address.user, worker, read_held(held))
    else:
        sent_by = messages(Flood(kind), address.user, worker, size)
    packets = [
        publish(
            f"{address.root}/{message.topic}",
            message.payload,
            None if message.answer is None else f"{address.root}/{message.answer}",
            qos,
            number,
            retain=message.topic.family.retained,
            user=message.properties,
        )
        for number, message in enumerate(sent_by)
    ]
    before_each = acknowledged.wait if qos else None
    sender = threading.Thread(
        target=flood,
        args=(connection, itertools.cycle(packets), rate, stop, before_each),
        daemon=True,
    )
    sender.start()
    wait_told(stop)
    sender.join(5)


if __name__ == "__main__":
    typer.run(main)
