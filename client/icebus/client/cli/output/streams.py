"""The standard streams of a program, which a shell may have closed, or led to a full disk."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any


class OutputError(OSError):
    """Stdout does not take what is written to it."""


def open_standard_streams() -> None:
    """Put something in the place of standard streams that are closed, and have them take any text.

    Called first of all: a descriptor that is closed is given to the next file that is opened, so
    that messages would be written into a socket or a database.

    What stdout does not take is an error, as its data is lost; stderr's, which only tells of what
    goes on, is dropped.
    """
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is this one: those below are open by now.
            os.open(os.devnull, mode)
    if sys.stderr is sys.__stderr__:
        encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(_Stderr()), encoding, errors="backslashreplace", line_buffering=True
        )
    if sys.stdout is sys.__stdout__:  # nobody has put another in its place
        encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Stdout()), encoding, errors="backslashreplace", line_buffering=True
        )


class _Descriptor(io.RawIOBase):
    """A standard stream's descriptor, which is not closed with it."""

    number: int

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.number

    def isatty(self) -> bool:
        return os.isatty(self.number)


class _Stderr(_Descriptor):
    """Descriptor 2. Nothing depends on whether it takes what is written, as on a full disk."""

    number = 2

    def write(self, data: Any) -> int:
        try:
            return os.write(2, data)
        except OSError:
            return len(data)


class _Stdout(_Descriptor):
    """Descriptor 1, whose failures can be told from those of other files."""

    number = 1

    def write(self, data: Any) -> int:
        try:
            return os.write(1, data)
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from error


def drop_output() -> None:
    """Drop what stdout does not take, which Python would try again at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def has_reader(error: OutputError) -> bool:
    """Whether somebody is to be told: the reader of a broken pipe, as `head`, has seen enough."""
    return error.errno != errno.EPIPE


def takes_unicode() -> bool:
    """Whether stdout's encoding has every character."""
    encoding = sys.stdout.encoding or "utf-8"
    return encoding.lower().replace("-", "").startswith("utf")
