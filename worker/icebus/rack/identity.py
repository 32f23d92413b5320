"""What tells a rack from all others: an id in its folder, made when its first board is.

Serials of virtual boards come of it, so that two racks of one farm never show the same ones, and
each shows the same ones after a restart.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from typing import TYPE_CHECKING, Final

from icebus.schemas.errors import InvalidRequest

if TYPE_CHECKING:
    from pathlib import Path

ID_FILE: Final = "rack.id"

_ID_BYTES: Final = 4
"""Of a hundred racks two have the same id with a chance of one in a million."""

_ID: Final = re.compile(rf"[0-9A-F]{{{2 * _ID_BYTES}}}")
_READ_AT_MOST: Final = 64


def rack_id(directory: Path) -> str:
    """The id of the rack in that folder, which is made if there is none.

    Raises:
        InvalidRequest: there is something else in its place, or it can't be read or written.
    """
    path = directory / ID_FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        text = _read(path)
        if text is None:
            _write(path, secrets.token_hex(_ID_BYTES).upper())
            text = _read(path) or ""
    except OSError as error:
        reason = "it is a link" if error.errno == errno.ELOOP else error.strerror
        raise InvalidRequest(f"Can't use {path}: {reason}.") from error
    if _ID.fullmatch(text.strip()) is None:
        raise InvalidRequest(
            f"{path} is not the id of a rack; remove it, and the boards that --boards makes get "
            "serials of a new one."
        )
    return text.strip()


def _read(path: Path) -> str | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        return os.read(file, _READ_AT_MOST).decode("ascii", errors="replace")
    finally:
        os.close(file)


def _write(path: Path, text: str) -> None:
    """Write the whole file at once, unless somebody else has meanwhile."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("x", encoding="ascii") as file:
            file.write(text + "\n")
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)
