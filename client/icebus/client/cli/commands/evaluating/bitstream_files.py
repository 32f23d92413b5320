"""The files that words on the command line mean: files, folders, patterns; in people's order.

Nothing of a file is read here, so thousands of them are known at once.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from icebus.client.cli.stdin import STDIN
from icebus.schemas.programs.logs import shortened

SUFFIX = ".bin"
"""What the bitstreams in a folder end with, as icepack's do."""

LONGEST_SHOWN = 300
"""Characters of a word in an error."""

_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file, and what it is called in results.

    Attributes:
        path: where it is.
        name: its own name; with folders where another file has the same.
    """

    path: Path
    name: str


def find_files(words: Sequence[Path], *, recursive: bool = False) -> list[NamedFile]:
    """The files that words mean, in the order of the words; within a folder or pattern by name.

    Args:
        words: files, folders with bitstreams, patterns such as ``runs/*/best.bin``, which a shell
            did not expand because they were quoted or too many, or ``-``.
        recursive: whether to look into the folders in folders, too.

    Raises:
        InvalidRequest: a folder has no bitstreams, or nothing matches a pattern.
    """
    paths = [path for word in words for path in _expand(word, recursive=recursive)]
    return [NamedFile(path, name) for path, name in zip(paths, names_of(paths), strict=True)]


def names_of(paths: Sequence[Path]) -> list[str]:
    """What files are called: by their own names, those of one name by as much as tells them apart.

    >>> names_of([Path("a/x.bin"), Path("b/x.bin"), Path("b/y.bin")])
    ['a/x.bin', 'b/x.bin', 'y.bin']
    """
    same = Counter(path.name for path in paths)
    return [path.name if same[path.name] == 1 else str(path) for path in paths]


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sorts as people do: ``2.bin`` before ``10.bin``.

    >>> sorted([Path("g10/a"), Path("g2/b"), Path("g2/a")], key=natural_key)
    [PosixPath('g2/a'), PosixPath('g2/b'), PosixPath('g10/a')]
    """
    return [
        (0, int(part), part) if part.isdecimal() and part.isascii() else (1, 0, part)
        for folder in path.parts
        for part in [*filter(None, _DIGITS.split(folder)), ""]
    ]


def _expand(word: Path, *, recursive: bool) -> Iterator[Path]:
    # Imported where it is wanted: TAB and `--help` need none of it.
    from icebus.schemas.errors import InvalidRequest

    if word == STDIN:
        yield word
    elif word.is_dir():
        yield from _in_folder(word, recursive=recursive)
    elif has_magic(str(word)) and not os.path.lexists(word):
        # Path.glob knows no absolute patterns.
        found = map(Path, glob(str(word), recursive=True))  # noqa: PTH207
        matches = sorted(found, key=natural_key)
        if not matches:
            raise InvalidRequest(
                f"{_shown(word)}: no file matches that; give files, folders or a pattern that some "
                "do",
                path=_shown(word),
            )
        for path in matches:
            if path.is_dir():
                yield from _in_folder(path, recursive=recursive, may_be_empty=True)
            else:
                yield path
    else:
        yield word


def _in_folder(folder: Path, *, recursive: bool, may_be_empty: bool = False) -> Iterator[Path]:
    """The bitstreams of a folder; names that begin with a dot are for programs."""
    from icebus.schemas.errors import InvalidRequest

    found: list[Path] = []
    folders = False

    def refuse(error: OSError) -> None:
        raise InvalidRequest(
            f"{_shown(folder)}: {error.strerror}: {_shown(Path(str(error.filename)))}",
            path=_shown(folder),
        ) from None

    for place, below, names in os.walk(folder, onerror=refuse):
        below[:] = [name for name in below if not name.startswith(".")]
        folders = folders or bool(below)
        if not recursive:
            below.clear()
        found += [
            Path(place, name)
            for name in names
            if name.endswith(SUFFIX) and not name.startswith(".")
        ]
    if not found and not may_be_empty:
        deeper = "; --recursive looks into its folders, too" if folders and not recursive else ""
        raise InvalidRequest(
            f"{_shown(folder)}: there is no bitstream (*{SUFFIX}) in this folder{deeper}",
            path=_shown(folder),
        )
    yield from sorted(found, key=natural_key)


def _shown(word: Path) -> str:
    from icebus.client._json_values import printable

    return shortened(printable(str(word)), LONGEST_SHOWN)
