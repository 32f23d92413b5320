"""What a user may have at once. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, field_validator

from icebus.schemas.errors import InvalidRequest
from icebus.schemas.message import Args
from icebus.schemas.selectors import Selector, parse

RESERVATIONS = 100
"""Reservations of one user, those that wait included: what a program gone wild may make."""

REQUESTS_PER_SECOND = 50.0
"""Requests of one user: ten thousand times what a usual run asks, and a tenth of what control can
answer. Ten times as many may come at once."""

PRIORITY = 10
"""The highest priority of a request: enough to say what is urgent, and waiting makes up for it."""


class Limit(Args):
    """The limits of one user."""

    devices: int | None = Field(default=None, ge=0, description="Held at once; null: all.")
    reservations: int = Field(default=RESERVATIONS, ge=0, description="Also those that wait.")
    priority: int = Field(default=PRIORITY, ge=-100, le=100, description="Highest of a request.")
    requests_per_second: float = Field(
        default=REQUESTS_PER_SECOND,
        gt=0,
        le=100_000,
        description="In the long run; ten seconds' worth may come at once.",
    )
    hours_a_week: float | None = Field(
        default=None, ge=0, description="Hours of holding one device, in any 7 days; null: all."
    )
    selector: tuple[str, ...] = Field(
        default=(), description="Labels of what may be held; of several, one. None: all."
    )

    @field_validator("selector", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        several = (value,) if isinstance(value, str) else value
        for each in several if isinstance(several, list | tuple) else ():
            try:
                parse(str(each))
            except InvalidRequest as error:
                raise ValueError(str(error)) from None
        return several

    @property
    def selectors(self) -> tuple[Selector, ...]:
        """Labels that a device must have, one of these; none where every device may be held."""
        return tuple(parse(each) for each in self.selector)


_NO_LIMIT_IS_MOST = ("devices", "hours_a_week")
"""Of these, null is the most generous."""


@dataclass(frozen=True)
class Limits:
    """The limits of all users.

    What a limit does not say comes from the next: a user's own, those of his groups, the default.
    Where several groups say something, the most generous counts.

    Attributes:
        default: of everybody.
        users: of some, by name.
        groups: of the members of groups, each of them, by the group's name.
    """

    default: Limit = field(default_factory=Limit)
    users: Mapping[str, Limit] = field(default_factory=dict)
    groups: Mapping[str, Limit] = field(default_factory=dict)

    def of(self, user: str, groups: Iterable[str] = ()) -> Limit:
        """What that user may have, who is in those groups."""
        own = self.users.get(user)
        of_groups = [self.groups[each] for each in sorted(groups) if each in self.groups]
        if own is None and not of_groups:
            return self.default
        said: dict[str, Any] = {}
        for name in Limit.model_fields:
            values = [getattr(each, name) for each in of_groups if name in each.model_fields_set]
            if values:
                said[name] = _most_generous(name, values)
        if own is not None:
            said |= {name: getattr(own, name) for name in own.model_fields_set}
        return self.default.model_copy(update=said)


def _most_generous(name: str, values: Sequence[Any]) -> Any:
    if name == "selector":
        return (
            () if () in values else tuple(dict.fromkeys(each for some in values for each in some))
        )
    if name in _NO_LIMIT_IS_MOST and None in values:
        return None
    return max(values)
