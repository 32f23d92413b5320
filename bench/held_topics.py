"""What a user who floods sends of boards that are his: valid messages, each worth some work."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

from bench.flood_topics import Message, request
from bench.population import individual
from icebus.schemas.files import ENCODING_PROPERTY, MAX_FILE_SIZE, Blob
from icebus.schemas.topics import BLOB, CALL


class HeldFlood(StrEnum):
    """What is done to a worker by somebody who holds boards of it."""

    STATUS = "status"
    INLINE = "inline"
    BLOBS = "blobs"
    SMALL = "small"
    WITHDRAW = "withdraw"


@dataclass(frozen=True)
class Held:
    """Boards that the flooder holds.

    Attributes:
        reservation: that they belong to.
        serials: theirs.
    """

    reservation: str
    serials: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.reservation}:{','.join(self.serials)}"


DISTINCT = 2_000
"""Calls until they come again."""

LARGE_FILES = 200
"""Files of the greatest size, which pack to a kilobyte, until they come again."""

FILES = 8
"""Of one call."""


def held_messages(kind: HeldFlood, user: str, worker: str, held: Held) -> Iterator[Message]:
    """What is sent, again and again.

    Args:
        kind: what is done.
        user: who sends it.
        worker: that has the boards.
        held: the boards.
    """
    numbers = count()

    def call(method: str, serials: tuple[str, ...], **args: object) -> Message:
        fields = {"reservation": held.reservation, "serials": serials, "args": args}
        topic = CALL(worker=worker, user=user, method=method)
        return request(topic, user, worker, next(numbers), fields)

    for number in range(DISTINCT):
        one = (held.serials[number % len(held.serials)],)
        batch = f"b{number}"
        match kind:
            case HeldFlood.STATUS:
                yield call("status", held.serials)
            case HeldFlood.INLINE:
                files = [inline(f"e{number}-{each}", large(each)) for each in range(FILES)]
                yield call("evaluate", held.serials, bitstreams=files, validate=False)
            case HeldFlood.BLOBS:
                blob = large(number % LARGE_FILES)
                topic = BLOB(worker=worker, user=user, sha256=blob.sha256)
                encoding = {ENCODING_PROPERTY: blob.encoding}
                yield Message(topic, blob.packed, None, encoding)
                named = {"id": f"e{number}", "sha256": blob.sha256}
                yield call("evaluate", one, bitstreams=[named], validate=False)
            case HeldFlood.SMALL:
                file = inline(f"e{number}", Blob.of(individual(number + 1).data))
                yield call("evaluate", one, bitstreams=[file], args={"window": 0.001})
            case HeldFlood.WITHDRAW:
                small = Blob.of(individual(number % 50 + 1).data)
                files = [inline(f"e{number}-{each}", small) for each in range(FILES)]
                yield call("evaluate", one, bitstreams=files, batch=batch)
                yield call("withdraw", one, batch=batch)
                yield call("acknowledge", one, evaluations=[each["id"] for each in files])


_LARGE: dict[int, Blob] = {}


def large(number: int) -> Blob:
    """A file of the greatest size that packs to a kilobyte."""
    if number not in _LARGE:
        _LARGE[number] = Blob.of(number.to_bytes(4) + bytes(MAX_FILE_SIZE - 4))
    return _LARGE[number]


def inline(name: str, blob: Blob) -> dict[str, str]:
    """A file as it stands inside a call."""
    data = base64.b64encode(blob.packed).decode()
    return {"id": name, "data": data, "encoding": blob.encoding}


def read_held(text: str) -> Held:
    """Boards from the text that :class:`Held` makes of them."""
    reservation, _, serials = text.partition(":")
    return Held(reservation, tuple(serials.split(",")))
