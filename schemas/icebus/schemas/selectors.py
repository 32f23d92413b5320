"""Selectors: which devices a request means, by their labels. Parsing and matching, both pure.

``chip=rp2350,rack!=b,!virtual`` means devices that meet every requirement. A device that lacks a
label meets ``rack!=b`` and ``rack notin (a,b)``: it is not in that rack.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from icebus.schemas.devices import DeviceReport
from icebus.schemas.errors import InvalidRequest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,62}")
_VALUE = re.compile(r"[A-Za-z0-9_.:/+-]{1,128}")
_SPACE = re.compile(r"\s*")


SERIAL = "serial"
"""The label of a device's name, which people type in lower case, too."""


class Operator(StrEnum):
    """How a requirement looks at a label."""

    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    MISSING = "!"


@dataclass(frozen=True)
class Requirement:
    """What one label must be: ``k=v`` is ``k in (v)``."""

    label: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def met(self, labels: Mapping[str, str]) -> bool:
        """Whether a device with these labels meets it."""
        match self.operator:
            case Operator.IN:
                return self._is_one(labels.get(self.label))
            case Operator.NOT_IN:
                return not self._is_one(labels.get(self.label))
            case Operator.EXISTS:
                return self.label in labels
            case Operator.MISSING:
                return self.label not in labels

    def _is_one(self, value: str | None) -> bool:
        if value is None or self.label != SERIAL:
            return value in self.values
        return value.casefold() in {each.casefold() for each in self.values}

    def __str__(self) -> str:
        if not self.values:
            return f"!{self.label}" if self.operator is Operator.MISSING else self.label
        listing = ",".join(sorted(self.values))
        if len(self.values) == 1:
            return f"{self.label}{'=' if self.operator is Operator.IN else '!='}{listing}"
        return f"{self.label} {self.operator} ({listing})"


@dataclass(frozen=True)
class Selector:
    """Requirements that all have to be met; none at all selects every device."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a device with these labels is meant."""
        return all(each.met(labels) for each in self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


def is_label(name: str, value: str) -> bool:
    """Whether a selector can ask for this label and this value of it."""
    return bool(_NAME.fullmatch(name) and _VALUE.fullmatch(value))


def labels_of(worker: str, report: DeviceReport) -> dict[str, str]:
    """The labels of a device: what its worker was told of it, and what is known of every device.

    The latter win, so that nobody can call an rp2040 an rp2350.
    """
    known = {
        "chip": report.chip,
        "worker": worker,
        "port": report.port,
        SERIAL: report.serial,
        "virtual": "true" if report.virtual else "false",
        "firmware": report.firmware,
    }
    return report.labels | {name: value for name, value in known.items() if value}


def parse(text: str) -> Selector:
    """Read a selector.

    Raises:
        InvalidRequest: it is none; the message points at the place.
    """
    return Selector(tuple(_Reader(text).requirements()))


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def requirements(self) -> list[Requirement]:
        self._skip()
        if self._at == len(self._text):
            return []
        found = [self._requirement()]
        while self._take(","):
            found.append(self._requirement())
        if self._at < len(self._text):
            self._fail("expected a comma or the end")
        return found

    def _requirement(self) -> Requirement:
        if self._take("!"):
            return Requirement(self._match(_NAME, "the name of a label"), Operator.MISSING)
        label = self._match(_NAME, "the name of a label")
        if self._take("!="):
            return Requirement(label, Operator.NOT_IN, frozenset({self._value()}))
        if self._take("="):
            return Requirement(label, Operator.IN, frozenset({self._value()}))
        for operator in (Operator.NOT_IN, Operator.IN):
            if self._take(operator.value):
                return Requirement(label, operator, self._values())
        return Requirement(label, Operator.EXISTS)

    def _values(self) -> frozenset[str]:
        if not self._take("("):
            self._fail("expected `(`")
        found = {self._value()}
        while self._take(","):
            found.add(self._value())
        if not self._take(")"):
            self._fail("expected a comma or `)`")
        return frozenset(found)

    def _value(self) -> str:
        return self._match(_VALUE, "a value")

    def _match(self, pattern: re.Pattern[str], what: str) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            self._fail(f"expected {what}")
        self._at = found.end()
        self._skip()
        return found[0]

    def _take(self, token: str) -> bool:
        if not self._text.startswith(token, self._at):
            return False
        self._at += len(token)
        self._skip()
        return True

    def _skip(self) -> None:
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _fail(self, problem: str) -> NoReturn:
        before, after = self._text[: self._at][-30:], self._text[self._at :][:30]
        raise InvalidRequest(
            f"selector: {problem} at character {self._at + 1}, {before}⟨here⟩{after}; "
            "selectors look like chip=rp2350,rack!=b,bench in (1,2),!virtual",
            position=self._at,
        )
