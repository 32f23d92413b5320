"""Logs of programs that run for years: bounded, with one generation before the present one."""

from __future__ import annotations

import os
from pathlib import Path

from icebus.schemas.programs.private_files import open_private

LOG_BYTES = 4 << 20
"""Of a log, and of the one before: some 40,000 lines each."""

_CHUNK = 1 << 16


def keep_bounded(log: Path, most: int = LOG_BYTES) -> bool:
    """Move what a log has to ``{name}.1`` when it is longer than ``most`` bytes.

    It is copied and truncated, as a program has it open: who appends to it goes on at its
    beginning. What is written just then is lost. Returns whether it was too long.

    Raises:
        InvalidRequest: one of the names is a link's, or another thing's that is not a file.
        OSError: it can't be read, or there is no room.
    """
    try:
        if log.stat(follow_symlinks=False).st_size <= most:
            return False
    except FileNotFoundError:
        return False
    source = open_private(log)
    try:
        target = open_private(log.with_name(f"{log.name}.1"), os.O_WRONLY | os.O_TRUNC)
        try:
            # A flood may have made it longer than there is room for: its end says most.
            os.lseek(source, max(0, os.fstat(source).st_size - most), os.SEEK_SET)
            while chunk := os.read(source, _CHUNK):
                os.write(target, chunk)
        finally:
            os.close(target)
            # Also when there was no room for a copy: a full disk is worse than a log that is gone.
            os.ftruncate(source, 0)
    finally:
        os.close(source)
    return True
