"""What comes from stdin where a file is wanted."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from icebus.client.cli.output.printing import print_message

TOLD_AFTER = 2.0
"""Seconds of silence; programs that write to a pipe have begun by then."""

STDIN = Path("-")
"""Given as a file, it is what comes from stdin."""


def read_stdin(files: Sequence[Path]) -> bytes | None:
    """What comes from stdin, if it is among the files; no more than is needed to refuse it.

    Raises:
        typer.BadParameter: it is given more than once.
    """
    from icebus.schemas.files import MAX_FILE_SIZE

    if STDIN not in files:
        return None
    if list(files).count(STDIN) > 1:
        raise typer.BadParameter(f"{STDIN} is given more than once; stdin can be read only once")
    with telling_what_is_read(STDIN):
        return sys.stdin.buffer.read(MAX_FILE_SIZE + 1)


@contextmanager
def telling_what_is_read(path: Path) -> Iterator[None]:
    """Say what is waited for if nobody writes to a pipe or a terminal that is read meanwhile."""
    if path != STDIN and (path.is_file() or not path.exists()):
        yield
        return
    what = "stdin" if path == STDIN else str(path)
    timer = threading.Timer(
        TOLD_AFTER, print_message, [f"icebus: waiting for a bitstream to be written to {what}"]
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
