"""Which word of a command line is being completed, and by what. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

Words: TypeAlias = list[tuple[str, str]]
"""What may stand there, and what it is."""

TREE = Path(__file__).with_name("commands.json")
"""The commands as a file, made by ``python -m tests.docs.completion_tree``; a test holds it true.

A command has ``help``, ``options`` and either ``commands`` or ``arguments``. An option has its
``name`` as the command's function calls it, ``names`` on the command line, ``help``, and what
``value`` it takes; so has an argument, which may be ``many``. Of a value are known its ``choices``
or its ``completer``, and the ``default`` where that is a text. ``topics`` are the families that
completers look at, as what to subscribe to behind the root.
"""


@dataclass
class Wanted:
    """What may stand in the place of a word.

    Attributes:
        begun: what of it was typed.
        words: those that are known from the commands alone.
        completer: what knows more of them.
        given: what stands before, by the names of the command's function.
        prefix: what stands before it in the same word, such as ``--kind=``.
    """

    begun: str
    words: Words = field(default_factory=list)
    completer: str | None = None
    given: dict[str, Any] = field(default_factory=dict)
    prefix: str = ""

    @property
    def matching(self) -> Words:
        """Those of the words that go on as was begun."""
        return [
            (self.prefix + word, about) for word, about in self.words if word.startswith(self.begun)
        ]


def read_tree() -> Mapping[str, Any]:
    """The file of commands.

    Raises:
        OSError: there is none.
        ValueError: it is something else.
    """
    return json.loads(TREE.read_bytes())  # type: ignore[no-any-return]


def find_wanted(tree: Mapping[str, Any], before: Sequence[str], begun: str) -> Wanted:
    """What may stand behind the words before.

    Args:
        tree: the commands.
        before: complete words, without the program's name.
        begun: the word that is not complete.
    """
    line = _Line(tree)
    for word in before:
        line.take(word)
    return line.wanted(begun)


class _Line:
    """A command line, read word by word."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self._command = tree
        self._given: dict[str, Any] = _defaults(tree)
        self._waits_for_value: Mapping[str, Any] | None = None
        self._only_arguments = False
        self._positions = 0
        self._used: set[str] = set()

    def take(self, word: str) -> None:
        if self._waits_for_value is not None:
            self._give(self._waits_for_value, word)
            self._waits_for_value = None
        elif word == "--" and not self._only_arguments:
            self._only_arguments = True
        elif word.startswith("-") and word != "-" and not self._only_arguments:
            self._take_option(word)
        elif (commands := self._command.get("commands")) is not None:
            # What is no command has no completion either.
            self._command = commands.get(word, {})
            self._given |= _defaults(self._command)
            self._used.clear()
        elif (argument := self._argument) is not None:
            self._give(argument, word)
            self._positions += 1

    def wanted(self, begun: str) -> Wanted:
        if self._waits_for_value is not None:
            return self._value_of(self._waits_for_value, begun)
        if begun.startswith("-") and not self._only_arguments:
            name, equals, value = begun.partition("=")
            option = self._option(name)
            if equals and name.startswith("--") and option is not None and option["value"]:
                return replace(self._value_of(option, value), prefix=f"{name}=")
            return Wanted(begun, self._options())
        if (commands := self._command.get("commands")) is not None:
            shown = [(name, each["help"]) for name, each in commands.items()]
            return Wanted(begun, shown)
        if (argument := self._argument) is not None:
            return self._value_of(argument, begun)
        return Wanted(begun)

    @property
    def _argument(self) -> Mapping[str, Any] | None:
        """The one whose turn it is."""
        arguments = self._command.get("arguments", ())
        for place, each in enumerate(arguments):
            if place == self._positions or each["many"]:
                return each  # type: ignore[no-any-return]
        return None

    def _take_option(self, word: str) -> None:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
        else:
            name, equals, value = word[:2], word[2:], word[2:]  # such as -n2
        option = self._option(name)
        if option is None:
            return
        self._used.add(option["name"])
        if not option["value"]:
            if equals and not word.startswith("--"):
                self._take_option("-" + equals)  # such as -vv
        elif equals:
            self._give(option, value)
        else:
            self._waits_for_value = option

    def _option(self, name: str) -> Mapping[str, Any] | None:
        for each in self._command.get("options", ()):
            if name in each["names"]:
                return each  # type: ignore[no-any-return]
        return None

    def _options(self) -> Words:
        return [
            (name, each["help"])
            for each in self._command.get("options", ())
            if not each["hidden"] and (each["many"] or each["name"] not in self._used)
            for name in each["names"]
        ]

    def _value_of(self, what: Mapping[str, Any], begun: str) -> Wanted:
        words = [(choice, "") for choice in what.get("choices", ())]
        return Wanted(begun, words, what.get("completer"), self._given)

    def _give(self, what: Mapping[str, Any], value: str) -> None:
        if what["many"]:
            self._given[what["name"]] = [*self._given.get(what["name"], ()), value]
        else:
            self._given[what["name"]] = value


def _defaults(command: Mapping[str, Any]) -> dict[str, Any]:
    return {
        each["name"]: each["default"] for each in command.get("options", ()) if "default" in each
    }
