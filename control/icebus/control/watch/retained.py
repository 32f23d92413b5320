"""What the broker retains of what controls published, whichever of them did. In memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from icebus.schemas.topics import DESIRED, RESERVATION


@dataclass
class RetainedTopics:
    """Names of retained topics that are not empty.

    Whoever begins to lead finds among them what the leader before it had no time to clear.

    Attributes:
        documents: reservations.
        desired: workers and serials.
    """

    documents: set[str] = field(default_factory=set)
    desired: set[tuple[str, str]] = field(default_factory=set)

    def on_written(self, topic: str, *, empty: bool) -> None:
        """A retained topic was written, or cleared."""
        if ids := RESERVATION.parse(topic):
            (self.documents.discard if empty else self.documents.add)(ids["reservation"])
        elif ids := DESIRED.parse(topic):
            (self.desired.discard if empty else self.desired.add)((ids["worker"], ids["serial"]))
