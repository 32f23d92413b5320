"""Cuts a board's output into lines, whatever pieces it comes in."""

from __future__ import annotations

LONGEST = 4096
"""Bytes kept while waiting for the end of a line: a board that babbles costs no memory."""


class Lines:
    """An incremental splitter."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes, without their ends; what is not ASCII is escaped."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-LONGEST:]
        return [line.rstrip(b"\r").decode("ascii", "backslashreplace") for line in whole]
