"""Files of one owner, in folders that others may be able to write to.

Locks, logs and journals have names that anybody can know before. Whoever may write to their folder
could lay a link there, and have us truncate, append to or open to others what it leads to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from icebus.schemas.errors import InvalidRequest

_NO_FILE: Final = frozenset({errno.ELOOP, errno.ENXIO, errno.EISDIR})
"""What opening says of a link, of a pipe or socket that nobody reads, and of a folder."""


def open_private(path: Path, flags: int = os.O_RDWR) -> int:
    """Open a file of ours, making it where there is none; the descriptor is not inherited.

    One that others could read or write, left by an earlier version or under another umask, is
    narrowed to its owner.

    Args:
        path: the file; its folder exists.
        flags: how to open it, as for ``os.open``.

    Raises:
        InvalidRequest: a link, a folder, a pipe or a device has that name.
        OSError: it can't be opened.
    """
    # Without O_NONBLOCK, opening a pipe waits for somebody at its other end.
    safe = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags | safe, 0o600)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise _not_a_file(path) from None
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _not_a_file(path)
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(descriptor, 0o600)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def refuse_planted_link(path: Path) -> None:
    """Refuse a link that somebody else may have laid; one's own in a folder of one's own is meant.

    Raises:
        InvalidRequest: it is one.
    """
    try:
        link, folder = path.lstat(), path.parent.stat()
    except FileNotFoundError:
        return
    ours = link.st_uid in (0, os.geteuid()) and not stat.S_IMODE(folder.st_mode) & 0o022
    if stat.S_ISLNK(link.st_mode) and not ours:
        raise _not_a_file(path)


def _not_a_file(path: Path) -> InvalidRequest:
    return InvalidRequest(
        f"{path} is a link or something else that is not a file, and is not followed; see who laid "
        "it there, remove it, and start again"
    )


def make_private_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, its owner's only whatever the umask is.

    Raises:
        OSError: it can't be made, or a file has its name.
    """
    if not path.parent.exists():
        make_private_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)


def narrow(path: Path) -> None:
    """Have a file, or a folder and all in it, be its owner's only; what is missing is passed over.

    Links, what belongs to others and what can't be changed are left as they are.
    """
    _narrow_one(path)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            _narrow_one(Path(folder, name))


def _narrow_one(path: Path) -> None:
    with contextlib.suppress(OSError):
        found = path.lstat()
        ours = found.st_uid == os.geteuid()
        if ours and found.st_mode & 0o077 and not stat.S_ISLNK(found.st_mode):
            path.chmod(stat.S_IMODE(found.st_mode) & 0o700)


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file that only its owner can read, whole or not at all.

    Made under a name that nobody can know before, so that no link that somebody laid is followed.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
