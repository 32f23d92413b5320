"""What Mosquitto has saved of itself, in ``mosquitto.db``: retained messages, without sessions.

Mosquitto 2.0 takes up the sessions that it has saved without the passwords they were opened with,
so that the next SIGHUP, whoever is added, corrupts its memory: see :mod:`icebus.broker.reading`.
Whoever had a session makes another one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from icebus.schemas.programs.private_files import write_private

NAME = "mosquitto.db"

_MAGIC = b"\x00\xb5\x00mosquitto db"
_HEADER = struct.Struct("!15sII")
"""Magic, a checksum that nobody checks, the version (``persist.h`` of Mosquitto)."""

_CHUNK = struct.Struct("!II")
"""Type and length of what follows it, in versions 5 and 6; earlier ones have another."""

_VERSIONS = (5, 6)
_STORED, _RETAINED = 2, 4
_OF_SESSIONS = (3, 5, 6)
"""Messages on their way to a client, its subscriptions, and the client itself."""

_ID_BYTES = 8
"""With which a stored message and what refers to it begin, in the machine's own order."""


def forget_sessions(directory: Path) -> None:
    """Take the sessions out of what a Mosquitto that has ended has left there.

    What can't be read is left as it is, for Mosquitto to judge.
    """
    path = directory / NAME
    try:
        saved = path.read_bytes()
    except FileNotFoundError:
        return
    left = without_sessions(saved)
    if left != saved:
        write_private(path, left)


def without_sessions(saved: bytes) -> bytes:
    """The same without sessions, and without messages that only they had use for."""
    if len(saved) < _HEADER.size:
        return saved
    magic, _, version = _HEADER.unpack_from(saved)
    if magic != _MAGIC or version not in _VERSIONS:
        return saved
    try:
        chunks = list(_chunks(saved))
    except struct.error:
        return saved
    retained = {body[:_ID_BYTES] for kind, body in chunks if kind == _RETAINED}
    kept = [
        _CHUNK.pack(kind, len(body)) + body
        for kind, body in chunks
        if kind not in _OF_SESSIONS and (kind != _STORED or body[:_ID_BYTES] in retained)
    ]
    return saved[: _HEADER.size] + b"".join(kept)


def _chunks(saved: bytes) -> Iterator[tuple[int, bytes]]:
    """Types and contents.

    Raises:
        struct.error: it was cut.
    """
    at = _HEADER.size
    while at < len(saved):
        kind, length = _CHUNK.unpack_from(saved, at)
        at += _CHUNK.size
        if at + length > len(saved):
            raise struct.error("cut")
        yield kind, saved[at : at + length]
        at += length
