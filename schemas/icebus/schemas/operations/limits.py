"""What a user may have, and has."""

from __future__ import annotations

from pydantic import Field

from icebus.schemas.ids import Id
from icebus.schemas.message import Args, Message, Natural, Timestamp


class LimitsArgs(Args):
    """``limits``: what the one who asks may have, and has."""


class LimitsReply(Message):
    """Answer to ``limits``; null where there is no limit."""

    user: Id
    groups: list[Id] = Field(default_factory=list)
    devices: Natural | None = Field(description="That may be held at once.")
    devices_held: Natural
    reservations: Natural
    reservations_live: Natural = Field(description="Also those that wait.")
    priority: int = Field(description="Highest of a request.")
    hours_a_week: float | None = Field(description="Hours of holding one device, in any 7 days.")
    hours_used: float = Field(description="In the last 7 days; of what is held, so far.")
    hours_free_again: Timestamp | None = Field(
        default=None, description="When there are some again, where there are none."
    )
    selector: list[str] = Field(
        default_factory=list, description="Labels of what may be held, one of these; none: all."
    )
