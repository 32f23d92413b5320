"""What was heard and is not yet in the database."""

from __future__ import annotations

from dataclasses import dataclass, field

from icebus.control.operations import expiry as agenda
from icebus.control.operations import observation
from icebus.control.operations import reminders as rounds
from icebus.control.store.transaction import Work
from icebus.schemas.components import Presence


@dataclass
class Pending:
    """Names of what changed since the database was last brought in line.

    It keeps which things are to be looked at, not what happened to them, so however much happens
    to one of them meanwhile it is looked at once.

    Attributes:
        connected: the connection is new, or that we lead.
        left: another control left us something to send.
        serials: devices to look at.
        announce: devices whose desired state is to be published whether or not it changed.
        clients: how clients are now.
        documents: reservations of which the broker keeps a document that is not our word.
        repeated: reservations whose document somebody wrote over.
        desired: workers and serials of which the broker keeps a desired state that is not.
        shifted: seconds that the clock was set by.
    """

    connected: bool = False
    left: bool = False
    serials: set[str] = field(default_factory=set)
    announce: set[str] = field(default_factory=set)
    clients: dict[tuple[str, str], Presence] = field(default_factory=dict)
    documents: set[str] = field(default_factory=set)
    repeated: set[str] = field(default_factory=set)
    desired: set[tuple[str, str]] = field(default_factory=set)
    shifted: float = 0.0

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def record(self, work: Work) -> None:
        """Bring the database in line with all of it."""
        if self.shifted:
            agenda.shift(work, self.shifted)
        if self.connected:
            observation.restart_grace(work)
        for (user, client), presence in self.clients.items():
            observation.attend(work, user, client, presence)
        if self.serials or self.announce:
            observation.observe(work, self.serials, self.announce)
        if self.connected:
            observation.announce_all(work)
        if self.documents:
            observation.clear_documents(work, self.documents)
        if self.repeated:
            rounds.repeat_documents(work, self.repeated)
        if self.desired:
            observation.clear_desired(work, self.desired)
