"""What a board replies in the framed protocol.

A payload that is not one raises ``ValueError``: its checksum was right, so the other side speaks
another version of the protocol. Bytes after the known fields are ignored, so that fields can be
added; only a result ends with text of any length.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from icebus.schemas.boards.framed import unpack
from icebus.schemas.boards.framed_requests import PINS_AT_ONCE

SAMPLES_PER_FRAME: Final = 256

LONGEST_NOTE: Final = 512
"""Bytes of the longest note of a result."""

HIGHEST_SAMPLE: Final = 4095
"""The reference voltage of the converter, which has 12 bits."""

BannerText = Annotated[str, Field(pattern=r"^[ -~]{0,64}$")]
"""Printable ASCII: it is logged, published and shown to people as it is."""


class Outcome(IntEnum):
    """How a measurement ended.

    ``NOT_CONFIGURED``: the FPGA left CDONE low. ``BITSTREAM_DAMAGED``: it did not inflate to what
    was announced, so that the FPGA was not touched. Virtual boards alone say ``UNSUPPORTED``, of a
    circuit that they can't simulate, and ``UNAVAILABLE``, when they have nothing to simulate with;
    the note says why.
    """

    MEASURED = 0
    ABORTED = 1
    NOT_CONFIGURED = 2
    BITSTREAM_DAMAGED = 3
    UNSUPPORTED = 4
    UNAVAILABLE = 5


class ResultFlag(IntFlag):
    """What else a result says of itself. ``ESTIMATE``: its pulses are not exact."""

    ESTIMATE = 1


class Reason(IntEnum):
    """Why a request was rejected; :class:`Rejected` says what its detail is."""

    HEADER_DAMAGED = 1
    PAYLOAD_DAMAGED = 2
    CUT_OFF = 3
    UNKNOWN_TYPE = 4
    TOO_LONG = 5
    QUEUE_FULL = 6
    INVALID_ARGUMENT = 7
    SEQUENCE_IN_USE = 8


class Phase(IntEnum):
    """What a board does right now."""

    IDLE = 0
    CONFIGURING = 1
    MEASURING = 2


@dataclass(frozen=True, slots=True)
class BoardStatus:
    """What a board does; the payload of ``ACCEPTED``, ``BOARD_STATUS`` and ``ABORTED``.

    Attributes:
        free_bytes: of the queue, for the next encoded bitstream.
        waiting: requests accepted that are not yet being measured.
        phase: what it does right now.
        cdone: whether the FPGA is configured.
        sequence: of the request that is being measured, or 0.
        skipped_bytes: received since it started, and belonging to no frame.
        uptime_ms: since it started, modulo 2**32.
        temperature_mc: of the chip, in thousandths of a degree Celsius.
    """

    free_bytes: int
    waiting: int
    phase: Phase
    cdone: bool
    sequence: int
    skipped_bytes: int
    uptime_ms: int
    temperature_mc: int

    _LAYOUT = struct.Struct("<IHBBIIIi")

    def pack(self) -> bytes:
        """As the payload of a frame."""
        return self._LAYOUT.pack(
            self.free_bytes,
            self.waiting,
            self.phase,
            self.cdone,
            self.sequence,
            self.skipped_bytes,
            self.uptime_ms,
            self.temperature_mc,
        )

    @classmethod
    def parse(cls, payload: bytes) -> BoardStatus:
        """From the payload of a frame.

        Raises:
            ValueError: it is not one.
        """
        free, waiting, phase, cdone, *rest = unpack(cls._LAYOUT, payload)
        return cls(free, waiting, Phase(phase), bool(cdone), *rest)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A request that has no effect.

    Attributes:
        reason: why.
        detail: the longest payload taken (``TOO_LONG``), free bytes (``QUEUE_FULL``), the bytes
            that had come (``CUT_OFF``), the type (``UNKNOWN_TYPE``), the place of the argument in
            the payload (``INVALID_ARGUMENT``); else 0.
    """

    reason: Reason
    detail: int = 0

    _LAYOUT = struct.Struct("<BxxxI")

    def pack(self) -> bytes:
        """As the payload of a frame."""
        return self._LAYOUT.pack(self.reason, self.detail)

    @classmethod
    def parse(cls, payload: bytes) -> Rejected:
        """From the payload of a frame.

        Raises:
            ValueError: it is not one.
        """
        reason, detail = unpack(cls._LAYOUT, payload)
        return cls(Reason(reason), detail)


@dataclass(frozen=True, slots=True)
class Result:
    """The one outcome of a measurement.

    Attributes:
        outcome: how it ended; the rest is meaningful as far as it went.
        cdone: whether the FPGA was configured at the end.
        pulses: per pin, in the order of the request.
        samples: how many were taken; they came before, as :class:`Samples`.
        window_us: microseconds that were measured in truth.
        temperature_mc: of the chip, in thousandths of a degree Celsius.
        inflate_us: microseconds that unpacking and checking the bitstream took, waiting for the one
            before to be sent included.
        configure_us: that configuring the FPGA took.
        gap_us: from the end of the measurement before to the start of this one.
        estimate: whether the pulses are estimated; only virtual boards do.
        note: what a virtual board has to say of its measurement; real ones say nothing.
    """

    outcome: Outcome
    cdone: bool
    pulses: tuple[int, ...]
    samples: int
    window_us: int
    temperature_mc: int
    inflate_us: int
    configure_us: int
    gap_us: int
    estimate: bool = False
    note: str = ""

    _LAYOUT = struct.Struct("<BBBBHxxIiIII4I")

    def pack(self) -> bytes:
        """As the payload of a frame."""
        unused = (0,) * (PINS_AT_ONCE - len(self.pulses))
        return (
            self._LAYOUT.pack(
                self.outcome,
                self.cdone,
                len(self.pulses),
                ResultFlag.ESTIMATE if self.estimate else 0,
                self.samples,
                self.window_us,
                self.temperature_mc,
                self.inflate_us,
                self.configure_us,
                self.gap_us,
                *self.pulses,
                *unused,
            )
            + cut_note(self.note).encode()
        )

    @classmethod
    def parse(cls, payload: bytes) -> Result:
        """From the payload of a frame.

        Raises:
            ValueError: it is not one.
        """
        outcome, cdone, pin_count, flags, samples, *numbers = unpack(cls._LAYOUT, payload)
        if pin_count > PINS_AT_ONCE:
            raise ValueError(f"{pin_count} pins where {PINS_AT_ONCE} at most can be")
        window, temperature, inflate, configure, gap, *pulses = numbers
        return cls(
            Outcome(outcome),
            bool(cdone),
            tuple(pulses[:pin_count]),
            samples,
            window,
            temperature,
            inflate,
            configure,
            gap,
            estimate=bool(flags & ResultFlag.ESTIMATE),
            note=_printable(payload[cls._LAYOUT.size :][:LONGEST_NOTE].decode(errors="replace")),
        )


def cut_note(note: str) -> str:
    """``note`` as far as it fits into a result, whole characters only."""
    return note.encode(errors="replace")[:LONGEST_NOTE].decode(errors="ignore")


def _printable(text: str) -> str:
    """``text`` that does nothing to a terminal: what a board says is shown to people."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


@dataclass(frozen=True, slots=True)
class Samples:
    """Some of a measurement's samples, in order and ahead of its result.

    Attributes:
        first: the place of the first of them in the measurement.
        values: 12 bits each; 4095 is the converter's reference voltage.
    """

    first: int
    values: tuple[int, ...]

    _LAYOUT = struct.Struct("<HH")

    def pack(self) -> bytes:
        """As the payload of a frame."""
        count = len(self.values)
        return self._LAYOUT.pack(self.first, count) + struct.pack(f"<{count}H", *self.values)

    @classmethod
    def parse(cls, payload: bytes) -> Samples:
        """From the payload of a frame.

        Raises:
            ValueError: it is not one.
        """
        first, count = unpack(cls._LAYOUT, payload)
        values = unpack(struct.Struct(f"<{count}H"), payload[cls._LAYOUT.size :])
        if max(values, default=0) > HIGHEST_SAMPLE:
            raise ValueError(f"a sample of {max(values)} where {HIGHEST_SAMPLE} is the highest")
        return cls(first, values)


class Banner(BaseModel):
    """What a board says of itself, as JSON."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    protocol: int = Field(description="Version of this protocol.")
    firmware: BannerText = Field(
        description="Name of the firmware, the same as in its image's marker."
    )
    version: BannerText = Field(description="Version of the firmware.")
    board: BannerText = Field(description="pico-ice or pico2-ice.")
    chip: BannerText = Field(description="rp2040 or rp2350.")
    id: BannerText = Field(
        description="Unique id of the board's flash; also its USB serial number."
    )
    reset: BannerText = Field(description="Why it started: power, watchdog or request.")
    bitstream_size: int = Field(description="Bytes of the longest bitstream.")
    queue_bytes: int = Field(description="Bytes of the queue of encoded bitstreams.")
    queue_length: int = Field(description="Most requests that may be owed a result at a time.")
    pins: tuple[int, ...] = Field(description="Pins of the FPGA's package that can be counted.")
    pins_at_once: int = Field(description="How many of them in one measurement.")
    window_us: tuple[int, int] = Field(description="Shortest and longest window.")
    adc_inputs: tuple[int, ...] = Field(description="Inputs of the converter that can be sampled.")
    rate_hz: tuple[int, int] = Field(description="Lowest and highest sample rate.")
    samples: int = Field(description="Most samples of one measurement.")

    def pack(self) -> bytes:
        """As the payload of a frame."""
        return self.model_dump_json().encode("ascii")

    @classmethod
    def parse(cls, payload: bytes) -> Banner:
        """From the payload of a frame.

        Raises:
            ValueError: it is not one.
        """
        return cls.model_validate_json(payload)
