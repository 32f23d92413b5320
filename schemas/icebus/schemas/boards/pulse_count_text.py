"""The text protocol of the existing pulse-count firmware, on the board's first serial port.

Lines end in CR LF. The host sends a bitstream as raw bytes, unframed; the firmware takes exactly
:data:`BITSTREAM_SIZE` of them, so every further byte belongs to the next transfer. Readers ignore
lines they don't know. Virtual boards print one more line before the report, with what the virtual
FPGA can say of its count; a real board never does.
"""

from __future__ import annotations

from typing import Final

EOL: Final = "\r\n"

BITSTREAM_SIZE: Final = 104_090
"""Bytes of a transfer: a full iCE40UP5K bitstream as icepack writes it. No other size is taken."""

CONNECTED: Final = "USB Connected :)"
WAITING: Final = "Waiting for bitstream transfer"
"""The firmware is ready for a transfer."""

STARTED: Final = "Bitstream transfer started"
RECEIVING: Final = "Receiving bitstream"
RECEIVED: Final = "Received bitstream in {us} us :)"
FLASHING: Final = "Flashing FPGA"
WATCHDOG_PREFIX: Final = "Watchdog timeout, "
WATCHDOG: Final = WATCHDOG_PREFIX + "{received} bytes received of {size}"
FLASH_TIMES_PREFIX: Final = "FPGA Flash times (us): "
FLASH_TIMES: Final = (
    FLASH_TIMES_PREFIX + "init {init}, start {start}, open {open}, write {write}, close {close}"
)
"""First line of the report, how long loading the FPGA took; the count is in the line after it."""

PULSES_PREFIX: Final = ", pulses: "
PULSES: Final = PULSES_PREFIX + "{pulses}"
"""Second line of the report."""

IDLE: Final = "IDLE"

WATCHDOG_SECONDS: Final = 2.0
"""A transfer that isn't complete this long after its first byte is dropped."""

CLOCK_HZ: Final = 48_000_000
"""What the RP clocks the FPGA with."""

WINDOW_SECONDS: Final = 1.0
"""How long the firmware counts (an older version: 5 s)."""

DEFAULT_LINE: Final = "default firmware"
"""What the firmware named ``default`` prints again and again."""

VIRTUAL_PREFIX: Final = "virtual FPGA: "
"""Starts every line that only a virtual board prints."""

VIRTUAL_EXACT: Final = VIRTUAL_PREFIX + "exact"
"""The count that follows is what the circuit gives, to the pulse."""

VIRTUAL_ESTIMATE: Final = VIRTUAL_PREFIX + "estimate: "
"""The count that follows is an estimate; why comes after the colon."""

VIRTUAL_CDONE_LOW: Final = VIRTUAL_PREFIX + "cdone low"
"""The FPGA refused the bitstream; the count that follows is 0, as on a real board."""

VIRTUAL_UNSUPPORTED: Final = VIRTUAL_PREFIX + "unsupported: "
"""No count follows: the virtual FPGA doesn't model the design, or simulating it failed."""

VIRTUAL_UNAVAILABLE: Final = VIRTUAL_PREFIX + "decoder unavailable: "
"""No count follows: the rack has nothing to read bitstreams with."""

MAX_LINE: Final = 200
"""Characters of the longest line, its end not counted."""


def single_line(text: str) -> str:
    """``text`` fit to end a line of the protocol: printable ASCII, no line breaks, bounded."""
    words = " ".join(text.split())
    ascii_only = "".join(c if " " <= c <= "~" else "?" for c in words)
    limit = MAX_LINE - len(VIRTUAL_UNAVAILABLE)
    return ascii_only if len(ascii_only) <= limit else ascii_only[: limit - 3] + "..."
