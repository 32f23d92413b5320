"""What a user who floods sends: valid messages on each topic that users may write."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from icebus.schemas.ids import BROKER, CONTROL
from icebus.schemas.topics import (
    ADMIN,
    BLOB,
    BROKER_OPERATION,
    CALL,
    CLIENT_STATE,
    OPERATION,
    REPLY,
    TopicName,
)


class Flood(StrEnum):
    """The topics that users may write."""

    OPERATION = "operation"
    ADMIN = "admin"
    CALL = "call"
    BLOB = "blob"
    CLIENTS = "clients"
    BROKER = "broker"


@dataclass(frozen=True)
class Message:
    """One message of a flood.

    Attributes:
        topic: where it goes.
        payload: what it says.
        answer: where an answer to it is wanted.
        properties: of the user's own.
    """

    topic: TopicName
    payload: bytes
    answer: TopicName | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


DISTINCT = 20_000
"""Messages until they come again, but for large ones."""

DISTINCT_BYTES = 64 << 20


def messages(kind: Flood, user: str, worker: str, size: int) -> Iterator[Message]:
    """So many messages that none is like another for a long time.

    Args:
        kind: on which topic.
        user: who sends them.
        worker: to whom, where that matters.
        size: bytes of each payload, at least.
    """
    padding = "x" * size
    for number in range(min(DISTINCT, DISTINCT_BYTES // max(1, size))):
        yield _message(kind, user, worker, number, padding)


def _message(kind: Flood, user: str, worker: str, number: int, padding: str) -> Message:
    match kind:
        case Flood.CLIENTS:
            state = {"state": "online", "session": "flood", "interval": 5, "padding": padding}
            topic = CLIENT_STATE(user=user, client=f"c{number}")
            return Message(topic, json.dumps(state).encode())
        case Flood.BLOB:
            topic = BLOB(worker=worker, user=user, sha256=f"{number:064x}")
            return Message(topic, b"%d" % number + padding.encode())
        case Flood.CALL:
            call = {"reservation": "r-none", "serials": ["NONE"], "args": {"x": padding}}
            topic = CALL(worker=worker, user=user, method="status")
            return request(topic, user, worker, number, call)
        case Flood.ADMIN:
            args = {"device": padding or "NONE"}
            topic = ADMIN(user=user, operation="quarantine")
            return request(topic, user, CONTROL, number, {"args": args})
        case Flood.BROKER:
            topic = BROKER_OPERATION(user=user, operation="passwd")
            return request(topic, user, BROKER, number, {"args": {"x": padding}})
        case Flood.OPERATION:
            wanted = {"kind": "pulsecount", "count": 999, "selector": padding or None}
            topic = OPERATION(user=user, operation="reserve")
            return request(topic, user, CONTROL, number, {"args": wanted})


def request(
    topic: TopicName, user: str, sender: str, number: int, fields: Mapping[str, object]
) -> Message:
    """A request of its own id, to be answered by ``sender``."""
    payload = json.dumps({"id": f"f{number}", **fields}).encode()
    return Message(topic, payload, REPLY(user=user, client="flood", sender=sender))
