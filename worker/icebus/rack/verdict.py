"""What the virtual FPGA says of one evaluation."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from icebus.schemas.boards import pulse_count_text as text

_PULSES: Final = struct.Struct("<q")
_UNKNOWN: Final = -1


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of simulating a bitstream for a window.

    Attributes:
        line: what a virtual board prints of it before its report.
        pulses: the count; ``None`` when it can't be known, and then nothing is reported.
    """

    line: str
    pulses: int | None

    @classmethod
    def counted(cls, pulses: int, *, exact: bool, cdone: bool, note: str) -> Verdict:
        """The FPGA took the bitstream and gave a count, or refused it and stood still."""
        if not cdone:
            return cls(text.VIRTUAL_CDONE_LOW, 0)
        if exact:
            return cls(text.VIRTUAL_EXACT, pulses)
        return cls(text.VIRTUAL_ESTIMATE + text.single_line(note), pulses)

    @classmethod
    def unsupported(cls, reason: str) -> Verdict:
        """The count can't be known."""
        return cls(text.VIRTUAL_UNSUPPORTED + text.single_line(reason), None)

    @classmethod
    def unavailable(cls, reason: str) -> Verdict:
        """There is nothing to read bitstreams with."""
        return cls(text.VIRTUAL_UNAVAILABLE + text.single_line(reason), None)

    def to_bytes(self) -> bytes:
        """The verdict on its way between processes."""
        pulses = _UNKNOWN if self.pulses is None else self.pulses
        return _PULSES.pack(pulses) + self.line.encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Verdict:
        """What :meth:`to_bytes` gave."""
        (pulses,) = _PULSES.unpack_from(data)
        return cls(data[_PULSES.size :].decode(), None if pulses == _UNKNOWN else pulses)
