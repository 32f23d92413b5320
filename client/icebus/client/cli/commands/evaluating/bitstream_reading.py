"""Reading the bitstreams that a command is given: few at once, many one after the other."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icebus.client.cli.commands.evaluating.bitstream_files import NamedFile, find_files, names_of
from icebus.client.cli.commands.results.outcomes import FILE
from icebus.client.cli.output.printing import print_message
from icebus.client.cli.stdin import STDIN, read_stdin, telling_what_is_read

if TYPE_CHECKING:
    from icebus.client._evaluating.bitstreams import Bitstream
    from icebus.schemas.errors import IcebusError

READ_FIRST = 256
"""Files that are read before anything is reserved, so that all that is wrong with any is told then.
They fill 30 MB at most. Of more it is only seen whether they can be read, which takes milliseconds;
one that is invalid then fails when its turn comes, and keeps no other from being measured."""

MOST_PROBLEMS = 20
"""Files that are told of, of those that can't be read."""


@dataclass(frozen=True)
class BitstreamFiles:
    """Files whose bitstreams are read when they are asked for, so that memory holds a few at once.

    Attributes:
        files: the files.
        piped: what came from stdin, if it is among them.
        validate: whether to refuse broken bitstreams.
    """

    files: Sequence[NamedFile]
    piped: bytes | None
    validate: bool

    @property
    def names(self) -> list[str]:
        """What the bitstreams are called, in their order."""
        return [_name(each) for each in self.files]

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Bitstream]:
        for file in self.files:
            yield self._read_or_fail(file)

    def read(self, file: NamedFile) -> Bitstream:
        """The bitstream in a file.

        Raises:
            InvalidRequest: it can't be read.
            BitstreamInvalid: it is far too large.
        """
        from icebus.client._evaluating.bitstreams import Bitstream
        from icebus.client._json_values import printable

        path = file.path
        if path == STDIN and self.piped is not None:
            return Bitstream.of(self.piped, _name(file), {FILE: str(path)}, validate=self.validate)
        # A folder's name may be no text that JSON can carry.
        named = {FILE: printable(str(path))}
        with telling_what_is_read(path):
            return Bitstream.read(path, named, name=file.name, validate=self.validate)

    def _read_or_fail(self, file: NamedFile) -> Bitstream:
        """The bitstream, or one that says why there is none: others are measured all the same."""
        from icebus.client._evaluating.bitstreams import Bitstream
        from icebus.client._json_values import printable
        from icebus.schemas.errors import BitstreamInvalid, IcebusError
        from icebus.schemas.files import Blob

        try:
            return self.read(file)
        except IcebusError as error:
            problem = BitstreamInvalid(error.message, **error.details)
            named = {FILE: printable(str(file.path))}
            return Bitstream(printable(file.name), Blob.of(b""), named, problem)


def open_files(
    words: Sequence[Path], *, validate: bool, recursive: bool = False
) -> Sequence[Bitstream] | BitstreamFiles:
    """The bitstreams that words mean: files, folders, patterns, ``-``.

    What is wrong with the files is told before anything is reserved.

    Raises:
        InvalidRequest: a file can't be read, a folder has none, or nothing matches a pattern.
        BitstreamInvalid: a file holds no valid bitstream.
    """
    return _open(find_files(words, recursive=recursive), validate=validate)


def read_all(paths: Sequence[Path], *, validate: bool) -> list[Bitstream]:
    """The bitstreams in files, all of them at once.

    Raises:
        InvalidRequest: a file can't be read.
        BitstreamInvalid: a file holds no valid bitstream.
    """
    named = zip(paths, names_of(paths), strict=True)
    files = [NamedFile(path, name) for path, name in named]
    return _read(BitstreamFiles(files, read_stdin(paths), validate))


def names_of_bitstreams(bitstreams: Sequence[Bitstream] | BitstreamFiles) -> list[str]:
    """What they are called, in their order."""
    if isinstance(bitstreams, BitstreamFiles):
        return bitstreams.names
    return [each.name for each in bitstreams]


def _open(files: Sequence[NamedFile], *, validate: bool) -> list[Bitstream] | BitstreamFiles:
    opened = BitstreamFiles(files, read_stdin([each.path for each in files]), validate)
    if len(files) <= READ_FIRST:
        return _read(opened)
    _refuse([problem for file in files if (problem := _unreadable(file.path)) is not None])
    return opened


def _read(opened: BitstreamFiles) -> list[Bitstream]:
    from icebus.schemas.errors import IcebusError

    bitstreams: list[Bitstream] = []
    problems: list[IcebusError] = []
    for file in opened.files:
        try:
            read = opened.read(file)
            read.check()
        except IcebusError as error:
            problems.append(error)
        else:
            bitstreams.append(read)
    _refuse(problems)
    return bitstreams


def _refuse(problems: Sequence[IcebusError]) -> None:
    """Raise the last of some problems, if there are any, and tell the others."""
    told = problems[:-1][:MOST_PROBLEMS]
    for problem in told:
        print_message(f"icebus: {problem.message}")
    if (more := len(problems) - 1 - len(told)) > 0:
        print_message(f"icebus: … and {more} more files that can't be used")
    if problems:
        raise problems[-1]


def _unreadable(path: Path) -> IcebusError | None:
    """Why a file can't be read, as far as can be told without reading it."""
    from icebus.client._evaluating.bitstreams import read_file
    from icebus.schemas.errors import IcebusError
    from icebus.schemas.files import MAX_FILE_SIZE

    if path == STDIN:
        return None
    try:
        status = path.stat()
    except (OSError, ValueError):
        status = None
    regular = status is not None and stat.S_ISREG(status.st_mode)
    if (
        regular
        and status is not None
        and status.st_size <= MAX_FILE_SIZE
        and os.access(path, os.R_OK)
    ):
        return None
    if status is not None and not regular and not stat.S_ISDIR(status.st_mode):
        return None  # a pipe is read in its turn
    try:
        read_file(path)
    except IcebusError as error:
        return type(error)(f"{path}: {error.message}", **error.details)
    return None


def _name(file: NamedFile) -> str:
    return "stdin" if file.path == STDIN else file.name
