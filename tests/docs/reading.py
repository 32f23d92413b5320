"""Documents as a careful reader takes them: blocks, commands with what they show, shapes. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_FENCE = re.compile(r"^([ \t]*)```(\S*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)

_NAMED = re.compile(r"# ([\w./-]+\.(?:py|toml|yml))\n")
"""First line of a block that is a file, for the reader to save under that name."""

_ID = re.compile(r"(?<![\w…])(?:[0-9A-F]{16}|[0-9a-f]{16})(?![\w…])")

_VOLATILE = re.compile(
    r"(?P<rest>…)"
    r"|(?<![\w…])(?P<id>[0-9A-F]{16}|[0-9a-f]{16})(?![\w…])"
    r"|(?P<number>(?:\d+[smhd])+\b|\d+(?:[.,:-]\d+)*)"
    r"|(?P<space>[ \t]+)"
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a document.

    Attributes:
        document: the document's path in the repository.
        line: of the fence.
        language: what stands behind the fence; empty for nothing.
        text: what is inside.
    """

    document: str
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def file(self) -> str:
        """The name under which the reader saves it; empty if it is no file."""
        named = _NAMED.match(self.text)
        return named[1] if named and self.language in ("python", "toml", "yaml") else ""


@dataclass(frozen=True)
class Step:
    """A command, and what the document shows of its output; nothing shown is nothing promised."""

    where: str
    command: str
    shown: tuple[str, ...] = ()


def blocks(document: str, text: str) -> list[Block]:
    """All fenced blocks, in order."""
    return [
        Block(
            document,
            text.count("\n", 0, found.start()) + 1,
            found[2],
            re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE),
        )
        for found in _FENCE.finditer(text)
    ]


def steps(block: Block) -> list[Step]:
    """The commands of a console block.

    Raises:
        ValueError: there is output before any command, or a quote that is not closed.
    """
    made: list[Step] = []
    lines = block.text.splitlines()
    number = 0
    while number < len(lines):
        where = f"{block.document}:{block.line + 1 + number}"
        if not lines[number].startswith("$ "):
            raise ValueError(f"{where}: {lines[number]!r} follows no command")
        command = lines[number].removeprefix("$ ")
        number += 1
        while not _complete(command):
            if number == len(lines):
                raise ValueError(f"{where}: {command!r} has no end")
            command += "\n" + lines[number]
            number += 1
        shown = []
        while number < len(lines) and not lines[number].startswith("$ "):
            shown.append(lines[number])
            number += 1
        while shown and not shown[-1]:
            shown.pop()
        made.append(Step(where, command, tuple(shown)))
    return made


def _complete(command: str) -> bool:
    if command.endswith("\\"):
        return False
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True


def words(command: str) -> list[str]:
    """What a command is made of, its comment aside; operators of the shell stand alone."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def is_plain(command: str) -> bool:
    """Whether a command is one program with arguments: no pipe, no substitution, no assignment."""
    if "$(" in command or "`" in command:
        return False
    said = words(command)
    return (
        bool(said) and "=" not in said[0] and not any(set(word) <= set("();<>|&") for word in said)
    )


def shape(shown: Sequence[str]) -> re.Pattern[str]:
    """What output looks like: ids, numbers and spaces may be others, ``…`` may be anything."""
    lines = [r"(?:.*\n)*?" if line == "…" else _line(line) + r"[ \t]*\n" for line in shown]
    return re.compile("".join(lines))


def _line(line: str) -> str:
    parts, end = [], 0
    for found in _VOLATILE.finditer(line):
        parts += [re.escape(line[end : found.start()]), _part(found)]
        end = found.end()
    return "".join([*parts, re.escape(line[end:])])


def _part(found: re.Match[str]) -> str:
    match found.lastgroup:
        case "rest":
            return ".*?"
        case "id":
            return r"([0-9A-F]{16})" if found[0].upper() == found[0] else r"([0-9a-f]{16})"
        case "number":
            return r"\d[\d.,:smhd-]*(?:e-\d+)?"
        case _:
            return r"[ \t]+"


def learn(shown: Sequence[str], found: re.Match[str]) -> Iterator[tuple[str, str]]:
    """Which id here stands for which id of the document."""
    documented = [name for line in shown if line != "…" for name in _ID.findall(line)]
    return zip(documented, found.groups(), strict=True)


def learn_in_any_order(shown: Sequence[str], text: str) -> dict[str, str] | None:
    """Which id stands for which, once every line shown is somewhere in ``text``; None before.

    For what a broker sends to somebody who subscribes: what it retains comes in no order.
    """
    ids: dict[str, str] = {}
    for line in shown:
        if line == "…":
            continue
        found = re.compile(rf"^{_line(line)}[ \t]*\n", re.MULTILINE).search(text)
        if found is None:
            return None
        ids.update(learn([line], found))
    return ids


def adapt(text: str, ids: Mapping[str, str]) -> str:
    """The text with the ids that there are here in the place of the document's."""
    return _ID.sub(lambda found: ids.get(found[0], found[0]), text)
