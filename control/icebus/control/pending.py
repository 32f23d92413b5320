"""What was heard and is not yet in the database."""

from __future__ import annotations

from dataclasses import dataclass, field

from icebus.control.operations.due import absent_clients, expiry, removed_users, retirement
from icebus.control.operations.reports import claims, device_reports, republishing
from icebus.control.transaction import Transaction
from icebus.schemas.components import Presence


@dataclass
class Pending:
    """Names of what changed since the database was last brought in line.

    It keeps which things are to be looked at, not what happened to them, so however much happens
    to one of them meanwhile it is looked at once.

    Attributes:
        everything: all is to be published: we have just connected, or begun to lead.
        outbox: another control left us something to send.
        roster: whom the broker knows is to be compared with who has what.
        serials: devices to look at.
        republish: devices whose desired state is to be published whether or not it changed.
        clients: how clients are now.
        documents: reservations whose retained document is another control's word.
        overwritten: those of them over whose document it was written just now.
        desired: workers and serials whose retained desired state is another control's word.
        claims: devices of which the retained alarm is another control's word.
        appeared: workers that were heard of for the first time.
        clock_set_by: seconds that the clock was set by.
    """

    everything: bool = False
    outbox: bool = False
    roster: bool = False
    serials: set[str] = field(default_factory=set)
    republish: set[str] = field(default_factory=set)
    clients: dict[tuple[str, str], Presence] = field(default_factory=dict)
    documents: set[str] = field(default_factory=set)
    overwritten: set[str] = field(default_factory=set)
    desired: set[tuple[str, str]] = field(default_factory=set)
    claims: set[str] = field(default_factory=set)
    appeared: set[str] = field(default_factory=set)
    clock_set_by: float = 0.0

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def record(self, transaction: Transaction) -> None:
        """Bring the database, and what is retained, in line with all of it."""
        if self.clock_set_by:
            expiry.shift(transaction, self.clock_set_by)
        if self.everything:
            absent_clients.restart_grace(transaction)
        for (user, client), presence in self.clients.items():
            absent_clients.on_presence(transaction, user, client, presence)
        if self.appeared:
            retirement.take_note_of(transaction, self.appeared)
        if self.serials or self.republish:
            device_reports.record_devices(transaction, self.serials, self.republish)
        if self.everything or self.roster:
            removed_users.compare_with_roster(transaction)
        if self.everything:
            republishing.publish_everything(transaction)
        if self.documents:
            republishing.clear_documents(transaction, self.documents)
        if self.overwritten:
            republishing.repeat_documents(transaction, self.overwritten)
        if self.desired:
            republishing.clear_desired(transaction, self.desired)
        if self.claims:
            claims.repeat_claims(transaction, self.claims)
