"""Files that travel beside messages: named by the hash of their bytes, compressed when that helps.

The bytes of a file cross on a ``blob`` topic, or inline as base64 when small; a method's argument
refers to them with a :class:`File`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final, Literal, cast

from isal import isal_zlib
from pydantic import (
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    ValidationInfo,
    model_validator,
)

from icebus.schemas.errors import BlobInvalid, BlobMissing, QueueFull
from icebus.schemas.ids import Id, Sha256, new_id

MAX_FILE_SIZE = 1 << 20
"""Bytes of a file, uncompressed: ten times a bitstream, and small enough to hold many."""

LONGEST_NAME = 4096
"""Characters of a file's name, which may be a path: Linux has no longer ones."""

LONGEST_KEPT_UNPACKED = 256 << 10
"""Bytes of a file that came inline which are kept unpacked until it is read: twice a bitstream."""

ENCODING_PROPERTY = "encoding"
"""MQTT user property that names how a blob's bytes are encoded."""

ZLIB: Final = "zlib"
IDENTITY: Final = "identity"

_LEVEL: Final = 1
"""Of ISA-L's 0 to 3: a quarter smaller than 0 in hardly more time."""

_BROKEN = cast("type[Exception]", isal_zlib.error)


def sha256_of(data: bytes) -> str:
    """The name under which ``data`` travels."""
    return hashlib.sha256(data).hexdigest()


def pack(data: bytes) -> tuple[bytes, str]:
    """The bytes to send for ``data`` and their encoding: zlib's format where that is smaller.

    A typical bitstream of 104,090 bytes packs to about 2 kB. ISA-L does that in a twentieth of
    the time that zlib itself takes, which was a sixth of what an evaluation cost its client.
    """
    packed = isal_zlib.compress(data, _LEVEL)
    return (packed, ZLIB) if len(packed) < len(data) else (data, IDENTITY)


def unpack(packed: bytes, encoding: str, limit: int = MAX_FILE_SIZE) -> bytes:
    """The bytes that were packed, never more than ``limit`` of them.

    Raises:
        BlobInvalid: unknown encoding, broken compression, or too many bytes.
    """
    if encoding == IDENTITY:
        data = packed
    elif encoding == ZLIB:
        inflater = isal_zlib.decompressobj()
        try:
            data = inflater.decompress(packed, limit + 1)
        except _BROKEN as error:
            raise BlobInvalid(f"the file's zlib data is broken: {error}") from None
        if len(data) <= limit and not inflater.eof:
            raise BlobInvalid("the file's zlib data ends early")
    else:
        raise BlobInvalid(f"unknown file encoding {encoding!r}; use {ZLIB!r} or {IDENTITY!r}")
    if len(data) > limit:
        raise BlobInvalid(f"the file has more than {limit} bytes", limit=limit)
    return data


class Unpacking:
    """Bounds what is unpacked for one call: a kilobyte may hold a megabyte, and a call hundreds.

    Args:
        limit: bytes, of all files together.

    Attributes:
        used: bytes that were unpacked so far.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    def unpack(self, packed: bytes, encoding: str) -> bytes:
        """The bytes that were packed.

        Raises:
            BlobInvalid: they are no file.
            QueueFull: they are too many, with those before.
        """
        left = self._limit - self.used
        try:
            data = unpack(packed, encoding, min(MAX_FILE_SIZE, left))
        except BlobInvalid as error:
            if error.details.get("limit") == left < MAX_FILE_SIZE:
                raise self._too_many() from None
            raise
        self.used += len(data)
        return data

    def count(self, size: int) -> None:
        """So many bytes more will be unpacked.

        Raises:
            QueueFull: they are too many, with those before.
        """
        if self.used + size > self._limit:
            raise self._too_many()
        self.used += size

    def _too_many(self) -> QueueFull:
        return QueueFull(
            f"the files of this call unpack to more than {self._limit} bytes on each device; call "
            "with fewer of them, or fewer devices at once",
            limit=self._limit,
        )


class Blob(BaseModel):
    """A file's bytes as they are kept: packed, because thousands of them wait in queues."""

    model_config = ConfigDict(frozen=True)

    sha256: Sha256
    packed: bytes
    encoding: str

    @classmethod
    def of(cls, data: bytes) -> Blob:
        """Pack ``data``."""
        packed, encoding = pack(data)
        return cls(sha256=sha256_of(data), packed=packed, encoding=encoding)

    @classmethod
    def received(cls, sha256: str, packed: bytes, encoding: str, data: bytes) -> Blob:
        """What came from the network under that name, and was unpacked.

        Raises:
            BlobInvalid: it is not what its name says.
        """
        if sha256_of(data) != sha256:
            raise BlobInvalid(f"the bytes sent are not those of {sha256}", sha256=sha256)
        return cls(sha256=sha256, packed=packed, encoding=encoding)

    def read(self) -> bytes:
        """The file's bytes."""
        return unpack(self.packed, self.encoding)


FindBlob = Callable[[str], Blob | None]
"""Finds the blob of a hash while a method's arguments are validated; None while its bytes have not
arrived."""


class File(BaseModel):
    """A file as an argument of a method: its hash or its bytes, a name and what belongs to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Id = Field(
        default_factory=new_id,
        description="Names this use of the file; results carry it back. Chosen by the client.",
    )
    name: str = Field(default="unnamed", max_length=LONGEST_NAME)
    media_type: str = Field(default="application/octet-stream", max_length=127)
    annotations: dict[str, JsonValue] = Field(
        default_factory=dict, description="Anything the client wants back with the result."
    )
    sha256: Sha256 | None = Field(
        default=None, description="Hash of the uncompressed bytes, sent on the blob topic."
    )
    data: Base64Bytes | None = Field(
        default=None, description="The bytes themselves, base64, for small files."
    )
    encoding: Literal["identity", "zlib"] = Field(
        default=IDENTITY, description="How the bytes of `data` are packed."
    )

    _blob: Blob | None = PrivateAttr(default=None)
    _fresh: bytes | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _has_content(self, info: ValidationInfo) -> File:
        """It has a hash or bytes; a :data:`FindBlob`, ``find_blob`` in the context, finds these.

        ``unpacking`` in the context, an :class:`Unpacking`, bounds the bytes of all files.
        """
        if (self.sha256 is None) == (self.data is None):
            raise ValueError("give either sha256 (and send the bytes on the blob topic) or data")
        if self.data is not None:
            try:
                context = info.context or {}
                unpacking = context.get("unpacking") or Unpacking(MAX_FILE_SIZE)
                fresh = unpacking.unpack(self.data, self.encoding)
            except BlobInvalid as error:
                raise ValueError(error.message) from None
            if self.encoding == IDENTITY:
                self._blob = Blob.of(fresh)
            else:
                sha256 = sha256_of(fresh)
                self._blob = Blob(sha256=sha256, packed=self.data, encoding=self.encoding)
            self._fresh = fresh if len(fresh) <= LONGEST_KEPT_UNPACKED else None
        elif self.sha256 is not None and info.context is not None:
            find_blob: FindBlob = info.context["find_blob"]
            self._blob = find_blob(self.sha256)
        return self

    @property
    def hash(self) -> str:
        """The sha256 of the bytes, however they came."""
        if self.sha256 is not None:
            return self.sha256
        return self.blob.sha256

    def read(self) -> bytes:
        """The file's bytes; once they need not be unpacked again, if they came inline.

        Raises:
            BlobMissing: they have not arrived.
        """
        fresh, self._fresh = self._fresh, None
        return self.blob.read() if fresh is None else fresh

    @property
    def blob(self) -> Blob:
        """The file's bytes, packed.

        Raises:
            BlobMissing: they have not arrived.
        """
        blob = self._blob  # once: pydantic looks long for what is private
        if blob is None:
            raise BlobMissing(
                "the file's bytes have not arrived; publish them on the worker's blob topic first",
                sha256=[self.sha256],
            )
        return blob


def missing_blobs(value: Any) -> list[str]:
    """The hashes of all files inside a method's arguments whose bytes have not arrived."""
    if isinstance(value, File):
        return [value.hash] if value.sha256 is not None and value._blob is None else []
    if isinstance(value, BaseModel):
        return missing_blobs([getattr(value, name) for name in type(value).model_fields])
    if isinstance(value, dict):
        return missing_blobs(list(value.values()))
    if isinstance(value, (list, tuple, set)):
        return sorted({sha for item in value for sha in missing_blobs(item)})
    return []
