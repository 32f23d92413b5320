"""What comes from stdin where a file is wanted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

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
    return sys.stdin.buffer.read(MAX_FILE_SIZE + 1)
