"""What the host asks a board for in the framed protocol.

Only :class:`Measure` carries anything; the other requests are their type and sequence. A payload
that is not one raises ``ValueError``: its checksum was right, so the other side speaks another
version of the protocol.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from isal import isal_zlib

from icebus.schemas.boards.framed import unpack

_LEVEL: Final = 1
"""Of ISA-L's 0 to 3: 3 takes nine times as long for a fortieth less."""

PINS_AT_ONCE: Final = 4
"""Pins that one measurement can count: the state machines of one PIO."""


class Encoding(IntEnum):
    """How a bitstream is carried."""

    STORED = 0
    DEFLATE = 1


class MeasurementKind(IntEnum):
    """What is measured."""

    PULSES = 1
    SAMPLES = 2


ADC_CLOCK_HZ: Final = 48_000_000
"""Of the converter, by the datasheets of RP2040 (4.9) and RP2350 (12.4); its divider has eight bits
of fraction."""


@dataclass(frozen=True, slots=True)
class CountPulses:
    """Count rising edges.

    Attributes:
        pins: of the FPGA's SG48 package, all counted at once, at most :data:`PINS_AT_ONCE`.
        window_us: microseconds that are counted.
    """

    pins: tuple[int, ...] = (27,)
    window_us: int = 1_000_000


@dataclass(frozen=True, slots=True)
class TakeSamples:
    """Sample a voltage.

    Attributes:
        adc_input: of the microcontroller's converter.
        rate_hz: samples a second.
        count: how many.
    """

    adc_input: int
    rate_hz: int = 10_000
    count: int = 500

    @property
    def period(self) -> float:
        """Seconds between two samples: the converter's clock divided, by whole 256ths."""
        return (ADC_CLOCK_HZ * 256 // self.rate_hz) / 256 / ADC_CLOCK_HZ


Measurement = CountPulses | TakeSamples


@dataclass(frozen=True, slots=True)
class Measure:
    """Configure the FPGA with a bitstream and measure what it does.

    Attributes:
        measurement: what to measure.
        bitstream_size: bytes of the bitstream itself.
        bitstream_crc: its CRC-32.
        encoding: how it is carried.
        encoded: what is carried.
    """

    measurement: Measurement
    bitstream_size: int
    bitstream_crc: int
    encoding: Encoding
    encoded: bytes

    _LAYOUT = struct.Struct("<IIBBBB4sIIHH")

    @classmethod
    def of(cls, bitstream: bytes, measurement: Measurement) -> Measure:
        """The request for a bitstream, carried in whatever way is shorter."""
        encoding, encoded = Encoding.DEFLATE, deflate(bitstream)
        if len(encoded) >= len(bitstream):
            encoding, encoded = Encoding.STORED, bitstream
        return cls(measurement, len(bitstream), isal_zlib.crc32(bitstream), encoding, encoded)

    def pack(self) -> bytes:
        """As the payload of a frame."""
        kind, window, pins = MeasurementKind.SAMPLES, 0, b""
        rate = count = adc_input = 0
        if isinstance(self.measurement, CountPulses):
            kind, window = MeasurementKind.PULSES, self.measurement.window_us
            pins = bytes(self.measurement.pins)
        else:
            rate, count = self.measurement.rate_hz, self.measurement.count
            adc_input = self.measurement.adc_input
        return (
            self._LAYOUT.pack(
                self.bitstream_size,
                self.bitstream_crc,
                self.encoding,
                kind,
                len(pins),
                adc_input,
                pins,
                window,
                rate,
                count,
                0,
            )
            + self.encoded
        )

    @classmethod
    def parse(cls, payload: bytes) -> Measure:
        """From the payload of a frame.

        Raises:
            ValueError: it is not one.
        """
        size, crc, encoding, kind, pin_count, adc_input, pins, window, rate, count, _ = unpack(
            cls._LAYOUT, payload
        )
        measurement: Measurement
        if MeasurementKind(kind) is MeasurementKind.PULSES:
            if pin_count > PINS_AT_ONCE:
                raise ValueError(f"{pin_count} pins at once")
            measurement = CountPulses(tuple(pins[:pin_count]), window)
        else:
            measurement = TakeSamples(adc_input, rate, count)
        return cls(measurement, size, crc, Encoding(encoding), payload[cls._LAYOUT.size :])


def deflate(data: bytes) -> bytes:
    """Compress as boards inflate it: raw deflate, without a header.

    ISA-L takes a hundredth of the time of zlib at its best, for 1.5 kB of a typical circuit instead
    of 0.9: on the serial line that is a millisecond, which is spent while the board measures.
    """
    compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()
