"""One rack a directory."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Self

from icebus.schemas.boards.rack import LOCK_FILE
from icebus.schemas.errors import Conflict
from icebus.schemas.programs.file_lock import is_locked
from icebus.schemas.programs.private_files import open_private

if TYPE_CHECKING:
    from pathlib import Path


def is_running(directory: Path) -> bool:
    """Whether a rack runs in that directory."""
    return is_locked(directory / LOCK_FILE)


class RackLock:
    """Holds ``rack.lock`` in a directory; the kernel lets go of it when the process ends.

    Raises:
        Conflict: another rack holds it.
        InvalidRequest: it is a link, or otherwise not a file.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = open_private(directory / LOCK_FILE)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 32).decode(errors="replace").strip()
            os.close(self._file)
            raise Conflict(
                f"A rack runs in {directory} already (process {holder}); "
                "stop it, or name another --directory."
            ) from None
        os.truncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let another rack have the directory."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
