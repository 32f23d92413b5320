"""What the virtual FPGA says of one evaluation."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

_HEADER: Final = struct.Struct("<B???B")
_PULSES: Final = struct.Struct("<Q")


class Counted(IntEnum):
    """Whether there is a count.

    ``UNSUPPORTED``: the virtual FPGA doesn't model the design, or simulating it failed.
    ``UNAVAILABLE``: there is nothing to simulate with.
    """

    YES = 0
    UNSUPPORTED = 1
    UNAVAILABLE = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of simulating a bitstream for a window.

    Attributes:
        counted: whether there is a count.
        pulses: for each pin, in the order of the evaluation; none if there is no count.
        exact: whether they are what the circuit gives, to the pulse.
        cdone: whether the FPGA took the bitstream; if not, nothing was counted.
        note: why it is not exact, or why there is no count.
        delays: whether the count depends on how fast gates are.
    """

    counted: Counted = Counted.YES
    pulses: tuple[int, ...] = ()
    exact: bool = True
    cdone: bool = True
    note: str = ""
    delays: bool = False

    @classmethod
    def of(cls, *pulses: int, exact: bool = True, note: str = "", delays: bool = False) -> Verdict:
        """The FPGA took the bitstream and gave a count for each pin."""
        return cls(pulses=pulses, exact=exact, note=note, delays=delays)

    @classmethod
    def refused(cls) -> Verdict:
        """The FPGA did not take the bitstream, and stands still."""
        return cls(cdone=False)

    @classmethod
    def unsupported(cls, reason: str) -> Verdict:
        """The count can't be known."""
        return cls(Counted.UNSUPPORTED, exact=False, note=reason)

    @classmethod
    def unavailable(cls, reason: str) -> Verdict:
        """There is nothing to read bitstreams with."""
        return cls(Counted.UNAVAILABLE, exact=False, note=reason)

    def to_bytes(self) -> bytes:
        """The verdict on its way between processes."""
        header = _HEADER.pack(self.counted, self.exact, self.cdone, self.delays, len(self.pulses))
        return header + b"".join(map(_PULSES.pack, self.pulses)) + self.note.encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Verdict:
        """What :meth:`to_bytes` gave."""
        counted, exact, cdone, delays, pins = _HEADER.unpack_from(data)
        note_at = _HEADER.size + pins * _PULSES.size
        pulses = struct.unpack_from(f"<{pins}Q", data, _HEADER.size)
        return cls(Counted(counted), pulses, exact, cdone, data[note_at:].decode(), delays)
