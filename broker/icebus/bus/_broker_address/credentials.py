"""Credentials files: where a broker is, who we are there, and the certificates that go with it.

One file is all that a machine needs. Programs take its path wherever they take a broker's URL.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from icebus.schemas.errors import InvalidRequest
from icebus.schemas.ids import Id
from icebus.schemas.programs.private_files import make_private_folder, write_private

log = logging.getLogger(__name__)

LARGEST = 1 << 20
"""Bytes of a credentials file; certificates have a few thousand."""


class Credentials(BaseModel):
    """Where a broker is, and who we are there: the contents of a credentials file.

    Attributes:
        url: the broker with user and, where there is one, password.
        user: the same user, for people.
        ca: certificates of the authorities to trust, as PEM; None to trust those of the system.
        certificate: our own, with those that lead to its authority, as PEM.
        key: of our certificate, as PEM.
        expires: when the account ends, as the broker last said.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    url: str = Field(repr=False)
    user: Id
    ca: str | None = Field(default=None, repr=False)
    certificate: str | None = Field(default=None, repr=False)
    key: str | None = Field(default=None, repr=False)
    expires: AwareDatetime | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """The credentials in a file.

        Raises:
            InvalidRequest: there is no such file, or it is something else.
        """
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(LARGEST)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise InvalidRequest(
                f"{str(path)!r} is neither a broker's URL, mqtts://user:password@host, nor a "
                f"credentials file ({why}); `icebus-broker add` writes such files"
            ) from None
        try:
            found = cls.model_validate_json(text)
        except ValidationError:
            raise InvalidRequest(
                f"{path} is not a credentials file; `icebus-broker add -o FILE` writes them as "
                "JSON with url and user"
            ) from None
        if mode & 0o077 and (found.key or ":" in found.url.partition("://")[2].partition("@")[0]):
            log.warning("others on this machine can read %s: chmod 600 it", path)
        return found

    def write(self, path: Path) -> None:
        """Write to a file that only its owner can read, whole or not at all."""
        make_private_folder(path.parent)
        with _changing(path.parent, fcntl.LOCK_EX):
            write_private(path, self.model_dump_json(indent=2, exclude_none=True) + "\n")

    @staticmethod
    def keep_authorities(path: Path, ca: str) -> None:
        """Have a credentials file trust others from now on; whatever else stands in it stays.

        Raises:
            OSError: it can't be written, or is being written by somebody else just now.
            InvalidRequest: others may read it, or it is theirs: what we write is ours alone.
        """
        found = path.lstat()
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
        if not ours or stat.S_IMODE(found.st_mode) & 0o277 != 0o200:
            raise InvalidRequest(f"{path} is not a file that we alone may read and write")
        with _changing(path.parent, fcntl.LOCK_EX | fcntl.LOCK_NB):
            said = json.loads(path.read_bytes())
            said["ca"] = ca
            write_private(path, json.dumps(said, indent=2) + "\n")


@contextlib.contextmanager
def _changing(folder: Path, how: int) -> Iterator[None]:
    """Be the only one to change files of this kind in a folder: none is written from an old one."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
