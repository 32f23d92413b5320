"""How shells ask for completions, and how they are answered: as the scripts of typer have it.

zsh evaluates what it is told, and a broker may retain anything: what could mean something to a
shell goes no further than here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from shlex import shlex

from icebus.client.cli.completing.command_tree import Words

VARIABLE = "_ICEBUS_COMPLETE"
"""By which a shell asks: ``complete_`` and its name."""

_WORD = re.compile(r"[\w@%+=:,./!~-]+")
"""What no shell takes for anything else than a word."""

_UNSAFE = re.compile(r"[^\w@%+=,./!~ ;?…×·–’-]")

LONGEST = 80
"""Characters of what is said of a word."""


def asked_by(environment: Mapping[str, str]) -> tuple[str, list[str], str] | None:
    """Which shell asks, the complete words behind the program's name, and the one begun.

    Returns:
        None where it asks for something else, or is another shell.
    """
    instruction, _, shell = environment.get(VARIABLE, "").partition("_")
    if instruction != "complete" or shell not in ("bash", "zsh", "fish"):
        return None
    if shell == "bash":
        words = _split(environment.get("COMP_WORDS", ""))
        count = environment.get("COMP_CWORD", "")
        place = int(count) if count.isdigit() else len(words)
        return (shell, *_joined(words[1:place], words[place] if place < len(words) else ""))
    line = environment.get("_TYPER_COMPLETE_ARGS", "")
    words = _split(line)[1:]
    if words and not line.endswith(" "):
        return shell, words[:-1], words[-1]
    return shell, words, ""


def _split(line: str) -> list[str]:
    """The words of a line that may end within quotes."""
    reader = shlex(line, posix=True)
    reader.whitespace_split = True
    reader.commenters = ""
    words: list[str] = []
    try:
        words.extend(reader)
    except ValueError:
        words.append(reader.token or "")
    return words


def _joined(before: Sequence[str], begun: str) -> tuple[list[str], str]:
    """The words as they were typed: bash takes ``=`` for a word of its own."""
    words: list[str] = []
    glue = False
    for word in [*before, begun]:
        if words and (glue or word == "="):
            words[-1] += word
        else:
            words.append(word)
        glue = word == "="
    return words[:-1], words[-1]


def answer(shell: str, begun: str, words: Words, environment: Mapping[str, str]) -> tuple[str, int]:
    """What to print, and the exit code.

    Args:
        shell: that asks.
        begun: the word as it was typed so far.
        words: that may stand there.
        environment: what else the shell says.
    """
    safe = [(word, tidy(about)) for word, about in words if _WORD.fullmatch(word)]
    if shell == "bash":
        # It puts what it is told behind the last `=`.
        kept = begun.rpartition("=")[0]
        cut = len(kept) + 1 if "=" in begun else 0
        return "\n".join(word[cut:] for word, _ in safe), 0
    if shell == "zsh":
        told = "\n".join(
            f'"{_escaped(word)}":"{_escaped(about)}"' if about else f'"{_escaped(word)}"'
            for word, about in safe
        )
        return (f"_arguments '*: :(({told}))'" if safe else "_files"), 0
    if environment.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
        return "", 0 if safe else 1
    return "\n".join(f"{word}\t{about}" if about else word for word, about in safe), 0


def _escaped(text: str) -> str:
    return text.replace(":", r"\\:")


def tidy(about: str) -> str:
    """The first line, without what a terminal or a shell would act on."""
    first = about.strip().partition("\n")[0].replace("`", "").replace("'", "’")
    return _UNSAFE.sub(" ", first)[:LONGEST].rstrip()
