"""One family of topics: how it is spelt, built and read, and how its messages are carried."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from pydantic import BaseModel

from icebus.schemas.expiry import NEVER, Expiry
from icebus.schemas.ids import ID_PATTERN, is_id

LARGEST = (2 << 20) - 1024
"""Bytes of a message where its topic says nothing else: all that our brokers take."""

LONGEST_SHOWN = 80
"""Characters of a level that messages about it show: senders choose up to 65,535."""

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Role(StrEnum):
    """What a principal of the broker is.

    An admin may all that a user may, a user all that an observer may. ``broker`` is the broker's
    own service, which keeps everybody's passwords and may read and write everything.
    """

    BROKER = "broker"

    CONTROL = "control"
    WORKER = "worker"
    USER = "user"
    OBSERVER = "observer"
    ADMIN = "admin"


Grant = Mapping[str, str]
"""Which levels of a topic are fixed for a principal: its own id where the value is ``SELF``."""

SELF = "{self}"


class TopicName(str):
    """The topic of one message, relative to the root.

    Attributes:
        family: that it belongs to, which says how the message is carried.
    """

    __slots__ = ("family",)
    family: Topic

    def __new__(cls, text: str, family: Topic) -> Self:
        """``text``, which must be spelt as the family's template says."""
        made = super().__new__(cls, text)
        made.family = family
        return made


@dataclass(frozen=True)
class Topic:
    """A family of topics.

    Attributes:
        template: levels, those in braces are ids.
        about: one line for the reference.
        writers: per role, which levels are fixed for a principal of that role.
        readers: likewise.
        model: the payload; None for raw bytes.
        retained: whether the broker keeps the last message.
        qos: MQTT quality of service, one per stream because QoS 0 overtakes QoS 1.
        expiry: how long the broker keeps a message.
        limit: bytes of the largest payload; more is refused before it is read.
    """

    template: str
    about: str
    writers: Mapping[Role, Grant]
    readers: Mapping[Role, Grant]
    model: type[BaseModel] | None
    retained: bool = False
    qos: int = 1
    expiry: Expiry = NEVER
    limit: int = LARGEST
    levels: tuple[str, ...] = field(init=False)
    _pattern: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(_PLACEHOLDER.findall(self.template)))
        pattern = _PLACEHOLDER.sub(rf"(?P<\1>{ID_PATTERN[1:-1]})", self.template)
        object.__setattr__(self, "_pattern", re.compile(pattern))

    def __call__(self, **ids: str) -> TopicName:
        """The topic with these ids in its levels.

        Raises:
            ValueError: a level is missing, unknown, or not an id.
        """
        if len(ids) != len(self.levels):
            raise ValueError(f"{self.template} takes {self.levels}, not {sorted(ids)}")
        try:
            text = self.template.format(**ids)
        except KeyError:
            text = ""
        # One match of the whole is half the cost of one for each level, and no less strict.
        if self._pattern.fullmatch(text) is None:
            self._check(ids)
        return TopicName(text, self)

    def filter(self, **ids: str) -> str:
        """The subscription for all such topics with these ids; other levels match anything.

        Raises:
            ValueError: a level is unknown, or not an id.
        """
        self._check(ids)
        return self.template.format(**{level: ids.get(level, "+") for level in self.levels})

    def _check(self, ids: dict[str, str]) -> None:
        for level, value in ids.items():
            if level not in self.levels:
                raise ValueError(f"{self.template} has {self.levels}, no {level!r}")
            if not is_id(value):
                raise ValueError(f"{level} {value!r} can't stand in a topic: letters, digits, _ -")

    def levels_in(self, topic: str) -> dict[str, str]:
        """The levels of ``topic`` by name, whatever stands in them; none if it is of no such form.

        For telling somebody what is wrong with a topic: what can be relied on is :meth:`parse`'s.
        """
        ours, theirs = self.template.split("/"), topic.split("/")
        if len(ours) != len(theirs):
            return {}
        return {
            name[1:-1]: level
            for name, level in zip(ours, theirs, strict=True)
            if name.startswith("{")
        }

    def why_malformed(self, levels: Mapping[str, str]) -> str:
        """What is wrong with a topic that is none of this family."""
        for name, level in levels.items():
            if not is_id(level):
                return (
                    f"{name} {level[:LONGEST_SHOWN]!r} can't stand in a topic: 1 to 64 letters, "
                    "digits, _ and -"
                )
        return f"no topic as {self.template}"

    def parse(self, topic: str) -> dict[str, str] | None:
        """The ids in the levels of ``topic``, or None when it is not of this family."""
        match = self._pattern.fullmatch(topic)
        return None if match is None else match.groupdict()
