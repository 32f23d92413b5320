"""The tables of control's database: everything that must outlive the process."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Index, Integer, String, false, text
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from icebus.schemas.devices import Desired
from icebus.schemas.operations.history import HistoryEvent
from icebus.schemas.operations.offers import Offer
from icebus.schemas.operations.reservations import (
    EndReason,
    HeldDevice,
    HoldState,
    Queue,
    Reservation,
    ReservationState,
)

E = TypeVar("E", bound=StrEnum)

_ID = 64
_NAME = 16
_ZERO = {"server_default": text("0")}
"""Of columns that came later: what the rows have that were there before."""

NOBODY = ""
"""The worker of a device whose worker was retired while it was held or quarantined."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment that knows its zone on every database; SQLite alone would forget it."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Refuse a moment without a zone, and store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone can't be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Give UTC back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Name(TypeDecorator[E], Generic[E]):
    """A member of an enumeration, stored as the word that also crosses the bus."""

    impl = String(_NAME)
    cache_ok = True

    def __init__(self, members: type[E]) -> None:
        super().__init__()
        self.members = members

    def process_bind_param(self, value: E | None, _dialect: Dialect) -> str | None:
        """Store the word."""
        return None if value is None else self.members(value).value

    def process_result_value(self, value: str | None, _dialect: Dialect) -> E | None:
        """Give the member back."""
        return None if value is None else self.members(value)


class DeviceRow(SQLModel, table=True):
    """A device control has ever heard of.

    ``generation`` counts what was desired of it, and never goes back.
    """

    __tablename__: ClassVar[str] = "devices"

    serial: str = Field(primary_key=True, max_length=_ID)
    worker: str = Field(max_length=_ID, index=True)
    generation: int = Field(default=0, sa_type=BigInteger)
    report: dict[str, Any] = Field(sa_type=JSON)
    quarantined: str | None = Field(default=None, description="Why nobody gets it.")
    reboot: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=_ZERO)
    reflash: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=_ZERO)
    asked_by: str | None = Field(
        default=None, max_length=_ID, description="Who asked for one of the two last."
    )
    claimed_by: list[str] | None = Field(
        default=None, sa_type=JSON, description="Other workers that say they have it."
    )
    claimed_since: datetime | None = Field(
        default=None, sa_type=UtcDateTime, description="Since when; null while nobody else does."
    )

    def desired(self, reservation: ReservationRow | None) -> Desired:
        """What control wants of it, given the live reservation that holds it."""
        desired = Desired(
            serial=self.serial,
            generation=self.generation,
            quarantined=self.quarantined,
            reboot=self.reboot,
            reflash=self.reflash,
            asked_by=self.asked_by,
        )
        if reservation is None:
            return desired
        return desired.model_copy(
            update={
                "reservation": reservation.id,
                "user": reservation.user,
                "kind": reservation.kind,
                "args": reservation.args,
                "until": reservation.until,
            }
        )


class WorkerRow(SQLModel, table=True):
    """A worker that was ever drained or retired.

    Not deleted, so that what is wanted of it can be repeated, and what it says too late is known.
    """

    __tablename__: ClassVar[str] = "workers"

    name: str = Field(primary_key=True, max_length=_ID)
    draining: str | None = Field(default=None, description="Why it gets no new reservations.")
    retired: datetime | None = Field(
        default=None, sa_type=UtcDateTime, description="When; null of one that was seen since."
    )


class ReservationRow(SQLModel, table=True):
    """A reservation; not deleted at its end, so that its holder can be told why it is over.

    While it is queued, ``until`` is when it stops waiting.
    """

    __tablename__: ClassVar[str] = "reservations"
    __table_args__ = (
        # What is asked of the few that live, and of the many that have ended, apart.
        Index(
            "reservations_live",
            "user",
            sqlite_where=text("state != 'ended'"),
            postgresql_where=text("state != 'ended'"),
        ),
        Index(
            "reservations_ended",
            "until",
            sqlite_where=text("state = 'ended'"),
            postgresql_where=text("state = 'ended'"),
        ),
    )

    id: str = Field(primary_key=True, max_length=_ID)
    user: str = Field(max_length=_ID, index=True)
    incarnation: str | None = Field(
        default=None, max_length=_ID, description="Which user of that name; null if not known."
    )
    kind: str = Field(max_length=_ID)
    args: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    state: ReservationState = Field(sa_type=Name(ReservationState))
    created: datetime = Field(sa_type=UtcDateTime)
    until: datetime = Field(sa_type=UtcDateTime)
    warn_at: datetime | None = Field(
        default=None,
        sa_type=UtcDateTime,
        description="When the holder is told that the end is near; null once told.",
    )
    client: str | None = Field(
        default=None, max_length=_ID, description="On whose presence it depends; null for none."
    )
    absent_since: datetime | None = Field(
        default=None,
        sa_type=UtcDateTime,
        description="Since when its client is absent; null while that is there.",
    )
    reason: EndReason | None = Field(default=None, sa_type=Name(EndReason))
    sequence: int = Field(default=0, description="Events sent to the holder.")
    revision: int = Field(
        default=0, sa_column_kwargs=_ZERO, description="Changes that its document has seen."
    )
    offered_to: str | None = Field(
        default=None, max_length=_ID, index=True, description="Who may accept it; null for nobody."
    )
    offered_incarnation: str | None = Field(
        default=None, max_length=_ID, description="Which user of that name; null if not known."
    )
    offered_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # What was asked for, which the queue and replacements need.
    count: int | None = None
    serials: list[str] | None = Field(default=None, sa_type=JSON)
    selector: str | None = None
    duration: float = Field(default=0.0, sa_column_kwargs=_ZERO)
    priority: int = Field(default=0, sa_column_kwargs=_ZERO)
    replace: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    # Where it stands in the queue.
    position: int | None = None
    waits_for: str | None = None
    estimate: datetime | None = Field(default=None, sa_type=UtcDateTime)
    published_estimate: datetime | None = Field(
        default=None, sa_type=UtcDateTime, description="The one in its retained document."
    )

    def document(self, holds: Iterable[HoldRow]) -> Reservation:
        """The reservation as it crosses the bus.

        Args:
            holds: all of its holds, in any order.
        """
        queue = None
        if self.position is not None:
            queue = Queue(
                position=self.position, reason=self.waits_for or "", estimate=self.estimate
            )
        offer = None
        if self.offered_to is not None and self.offered_until is not None:
            offer = Offer(to=self.offered_to, until=self.offered_until)
        return Reservation(
            id=self.id,
            revision=self.revision,
            user=self.user,
            kind=self.kind,
            state=self.state,
            devices=[
                HeldDevice(
                    serial=hold.serial, worker=hold.worker, state=hold.state, reason=hold.reason
                )
                # Not by the database: how it sorts depends on its locale.
                for hold in sorted(holds, key=lambda hold: hold.serial)
            ],
            created=self.created,
            until=self.until,
            client=self.client,
            reason=self.reason,
            priority=self.priority,
            replace=self.replace,
            queue=queue,
            offer=offer,
        )


class HoldRow(SQLModel, table=True):
    """One device of a reservation.

    The database itself refuses a second live hold of a device.
    """

    __tablename__: ClassVar[str] = "holds"
    __table_args__ = (
        Index(
            "holds_one_live_per_device",
            "serial",
            unique=True,
            sqlite_where=text("state != 'released'"),
            postgresql_where=text("state != 'released'"),
        ),
    )

    reservation: str = Field(primary_key=True, foreign_key="reservations.id", max_length=_ID)
    serial: str = Field(primary_key=True, foreign_key="devices.serial", max_length=_ID, index=True)
    worker: str = Field(max_length=_ID)
    state: HoldState = Field(sa_type=Name(HoldState))
    reason: str = ""


class UseRow(SQLModel, table=True):
    """One device that a user held, or holds; kept for as long as hours are counted over."""

    __tablename__: ClassVar[str] = "uses"

    number: int | None = Field(
        default=None,
        primary_key=True,
        sa_type=BigInteger().with_variant(Integer, "sqlite"),
    )
    user: str = Field(max_length=_ID, index=True)
    reservation: str = Field(max_length=_ID, index=True)
    serial: str = Field(max_length=_ID)
    began: datetime = Field(sa_type=UtcDateTime)
    ended: datetime | None = Field(default=None, sa_type=UtcDateTime, index=True)


class RequestRow(SQLModel, table=True):
    """A request that changed something, with the answer it got and gets again."""

    __tablename__: ClassVar[str] = "requests"

    user: str = Field(primary_key=True, max_length=_ID)
    id: str = Field(primary_key=True, max_length=_ID)
    operation: str = Field(max_length=_ID)
    digest: str = Field(max_length=_ID, description="Of the arguments.")
    reply: dict[str, Any] = Field(sa_type=JSON)
    at: datetime = Field(sa_type=UtcDateTime, index=True)


class HistoryRow(SQLModel, table=True):
    """One thing that happened. Rows are added and, when they are old, dropped; never changed."""

    __tablename__: ClassVar[str] = "history"
    __table_args__ = ({"sqlite_autoincrement": True},)

    number: int | None = Field(
        default=None,
        primary_key=True,
        # SQLite counts up by itself in integers only.
        sa_type=BigInteger().with_variant(Integer, "sqlite"),
    )
    at: datetime = Field(sa_type=UtcDateTime, index=True)
    event: HistoryEvent = Field(sa_type=Name(HistoryEvent))
    actor: str = Field(max_length=_ID)
    reservation: str | None = Field(default=None, max_length=_ID, index=True)
    user: str | None = Field(default=None, max_length=_ID, index=True)
    serial: str | None = Field(default=None, max_length=_ID, index=True)
    worker: str | None = Field(default=None, max_length=_ID)
    reason: str = ""
