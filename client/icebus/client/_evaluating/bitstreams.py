"""Bitstreams as users give them, made ready to be sent: read, checked, hashed and packed once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from icebus.client._json_values import json_object, json_text, printable
from icebus.client._reservation.document import meant_devices
from icebus.schemas.boards import bitstream
from icebus.schemas.errors import BitstreamInvalid, InvalidRequest
from icebus.schemas.files import LONGEST_NAME, MAX_FILE_SIZE, Blob
from icebus.schemas.operations.reservations import Reservation
from icebus.schemas.programs.logs import shortened

LONGEST_SHOWN = 300
"""Characters of a path in an error."""

Source = Any
"""A path, bytes, ``(name, bytes)``, a :class:`Bitstream`, or an object with ``data`` and perhaps
``name`` and ``annotations``, where ``data`` is bytes or a path."""


@dataclass(frozen=True)
class Bitstream:
    """A bitstream ready to be sent.

    Attributes:
        name: comes back with results.
        blob: its bytes, packed, under their hash.
        annotations: JSON that comes back with results.
        problem: why it is not valid; None when it is, or wasn't checked.

    Raises:
        InvalidRequest: the name is not text or too long, or the annotations are not what JSON can
            hold.
    """

    name: str
    blob: Blob = field(repr=False)
    annotations: Mapping[str, JsonValue] = field(default_factory=dict)
    problem: BitstreamInvalid | None = None

    def __post_init__(self) -> None:
        name = json_text(self.name, "the name of a bitstream")
        if len(name) > LONGEST_NAME:
            raise InvalidRequest(
                f"{shortened(name, LONGEST_SHOWN)}: a bitstream's name has at most "
                f"{LONGEST_NAME:,} characters; what else belongs to it goes into its annotations"
            )
        annotations = json_object(self.annotations, f"{name}: annotations")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "annotations", annotations)

    @classmethod
    def of(
        cls,
        data: bytes,
        name: str = "unnamed",
        annotations: Mapping[str, JsonValue] | None = None,
        *,
        validate: bool = True,
    ) -> Bitstream:
        """A bitstream from its bytes.

        Raises:
            InvalidRequest: more bytes than any file may have, and not to be validated.
        """
        return cls._make(data, name, annotations, validate, printable(str(name)))

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        annotations: Mapping[str, JsonValue] | None = None,
        *,
        name: str | None = None,
        validate: bool = True,
    ) -> Bitstream:
        """A bitstream from a file; its name is the file's unless another is given.

        Raises:
            InvalidRequest: the file can't be read.
        """
        where = Path(path)
        # Who gives a file's content for its path is not told all of it again.
        shown = shortened(printable(str(where)), LONGEST_SHOWN)
        called = name or where.name
        if called in (where.name, str(where)) and printable(called) != called:
            raise InvalidRequest(
                f"{shown}: the file's name is not UTF-8, which nothing here can send; rename the "
                "file, or in Python give (name, bytes)",
                path=shown,
            )
        try:
            data = read_file(where)
        except (InvalidRequest, BitstreamInvalid) as error:
            raise type(error)(f"{shown}: {error.message}", **error.details) from None
        return cls._make(data, name or where.name, annotations, validate, shown)

    @classmethod
    def _make(
        cls,
        data: bytes,
        name: str,
        annotations: Mapping[str, JsonValue] | None,
        validate: bool,
        called: str,
    ) -> Bitstream:
        problem = None
        if validate:
            try:
                bitstream.validate(data)
            except BitstreamInvalid as error:
                problem = BitstreamInvalid(f"{called}: {error.message}", **error.details)
                data = data[:MAX_FILE_SIZE]
        elif len(data) > MAX_FILE_SIZE:
            raise InvalidRequest(
                f"{called}: {len(data):,} bytes; the bus carries files of at most {MAX_FILE_SIZE:,}"
            )
        return cls(name, Blob.of(data), annotations or {}, problem)

    def check(self) -> None:
        """Raise what is wrong with it.

        Raises:
            BitstreamInvalid: it would not configure an FPGA.
        """
        if self.problem is not None:
            raise self.problem


@dataclass(frozen=True, slots=True)
class Item:
    """A bitstream of a run, and what its user gave for it.

    Attributes:
        source: the very object; outcomes carry it.
        bitstream: made of it.
    """

    source: object
    bitstream: Bitstream


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a user gave for a bitstream, and the boards that are to measure it.

    Attributes:
        source: the bitstream.
        serials: the boards, each once; None where the run decides.
    """

    source: Source
    serials: tuple[str, ...] | None

    @classmethod
    def of(cls, given: Source) -> Chosen:
        """Read ``(bitstream, serials)``, or a bitstream alone.

        Raises:
            InvalidRequest: no board is named.
        """
        match given:
            case (source, None):
                return cls(source, None)
            case (source, str() as serial):
                return cls(source, (serial,))
            case (source, list() | tuple() | set() | frozenset() as serials) if all(
                isinstance(serial, str) for serial in serials
            ):
                if not serials:
                    raise InvalidRequest(
                        "no board is named for a bitstream; give (bitstream, None) for those of "
                        "the run"
                    )
                ordered = sorted(serials) if isinstance(serials, set | frozenset) else serials
                return cls(source, tuple(dict.fromkeys(ordered)))
        return cls(given, None)

    def among(self, document: Reservation) -> Chosen:
        """The same with those of a reservation's boards that the serials mean, in whatever case."""
        if self.serials is None:
            return self
        return replace(self, serials=tuple(dict.fromkeys(meant_devices(document, self.serials))))


def read_file(path: Path) -> bytes:
    """The bytes of a file that may be a bitstream; the errors' messages do not name it.

    Raises:
        InvalidRequest: it can't be read.
        BitstreamInvalid: it is far too large.
    """
    shown = printable(str(path))
    try:
        with path.open("rb") as file:
            # One byte more than the largest tells that it is too large without reading it.
            data = file.read(MAX_FILE_SIZE + 1)
            size = max(os.fstat(file.fileno()).st_size, len(data))
    except OSError as error:
        raise InvalidRequest(
            f"{error.strerror}; give the path of a bitstream made by icepack", path=shown
        ) from None
    if size > MAX_FILE_SIZE:
        # What has no size of its own, such as a device, may go on without end.
        count = f"{size:,}" if size > len(data) else f"{MAX_FILE_SIZE:,} or more"
        raise BitstreamInvalid(
            f"{count} bytes are not a bitstream for the iCE40UP5K, which has "
            f"{bitstream.BITSTREAM_SIZE:,}; give the .bin that icepack wrote",
            path=shown,
            size=size,
            problem="size",
        )
    return data


def load(source: Source, *, validate: bool = True) -> Bitstream:
    """The bitstream that a user means by ``source``.

    Raises:
        InvalidRequest: it can't be read, or is nothing that could be one.
        BitstreamInvalid: a file far too large to be one.
    """
    match source:
        case Bitstream():
            return source
        case bytes() | bytearray() | memoryview():
            return Bitstream.of(bytes(source), validate=validate)
        case str() | os.PathLike():
            return Bitstream.read(source, validate=validate)
        case (str() as name, bytes() | bytearray() | memoryview() as data):
            return Bitstream.of(bytes(data), name, validate=validate)
    content = getattr(source, "data", None)
    given = getattr(source, "name", None)
    annotations = getattr(source, "annotations", None)
    if isinstance(content, (bytes, bytearray, memoryview)):
        return Bitstream.of(bytes(content), given or "unnamed", annotations, validate=validate)
    if isinstance(content, (str, os.PathLike)):
        return Bitstream.read(content, annotations, name=given, validate=validate)
    raise InvalidRequest(
        f"{type(source).__name__} is not a bitstream: give a path, bytes, (name, bytes) or an "
        "object with data, name and annotations; or any of these with the serials of the boards "
        "that are to measure it, (bitstream, [serial, …])"
    )


def as_sources(sources: Iterable[Source]) -> Iterable[Source]:
    """What was given, where a single path or file's bytes stand for themselves.

    Raises:
        InvalidRequest: it is nothing that has bitstreams in it.
    """
    if isinstance(sources, (str, bytes, os.PathLike)):
        return [sources]
    if hasattr(sources, "__aiter__"):
        raise InvalidRequest(
            "bitstreams are read on a thread, and so not from an asynchronous generator: give a "
            "plain one, or take from yours first, as in [each async for each in …]"
        )
    if not isinstance(sources, Iterable):
        raise InvalidRequest(
            f"bitstreams are given as a list, a generator or another iterable, not as "
            f"{type(sources).__name__}"
        )
    return sources


def evaluations_of(sources: Iterable[Source], copies: int, repeats: int = 1) -> int | None:
    """How many evaluations they come to, if they tell.

    Args:
        sources: bitstreams, some perhaps with boards that are chosen for them.
        copies: the boards that a bitstream goes to for which none are chosen.
        repeats: how often each is measured.
    """
    if not isinstance(sources, Sequence):
        length = length_of(sources)
        return None if length is None else length * copies * repeats
    chosen = (Chosen.of(source).serials for source in sources)
    return repeats * sum(copies if serials is None else len(serials) for serials in chosen)


def length_of(sources: Iterable[Source]) -> int | None:
    """How many there are, if they tell."""
    return len(sources) if isinstance(sources, Sized) else None
