"""What a control that does not lead has to say: kept with what it decided, sent by the leader.

So the messages of all controls go out in the order of their transactions and from one place, and
those of one that dies right after its decision are not lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel
from sqlalchemy import BigInteger, Integer, delete, insert
from sqlmodel import Field, Session, SQLModel, col, select

from icebus.schemas.topics import TopicName, read_topic

CLEAR = b""
"""What clears a retained topic."""


@dataclass(frozen=True)
class Outgoing:
    """A message to publish.

    Attributes:
        topic: says how it is carried.
        message: a model, or one as it crosses the network; ``CLEAR`` clears a retained topic.
        interval: seconds until it is sent anew, where its expiry depends on that.
    """

    topic: TopicName
    message: BaseModel | bytes
    interval: float | None = None

    @property
    def payload(self) -> bytes:
        """The message as it crosses the network."""
        message = self.message
        return message if isinstance(message, bytes) else message.model_dump_json().encode()


class OutboxRow(SQLModel, table=True):
    """A message that the leader has yet to send."""

    __tablename__: ClassVar[str] = "outbox"

    number: int | None = Field(
        default=None,
        # SQLite counts only in a column of that very type.
        sa_type=BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
    )
    topic: str
    payload: bytes


_ALL = select(OutboxRow).order_by(col(OutboxRow.number))
"""Asked in every transaction of the leader."""


def put(session: Session, messages: Iterable[Outgoing]) -> None:
    """Leave messages to the leader."""
    rows = [{"topic": message.topic, "payload": message.payload} for message in messages]
    if rows:
        session.execute(insert(OutboxRow), rows)


def take(session: Session) -> list[Outgoing]:
    """Take all that others left to us, the leader."""
    rows = session.exec(_ALL).all()
    if rows:
        session.execute(delete(OutboxRow).where(col(OutboxRow.number) <= rows[-1].number))
    return [Outgoing(read_topic(row.topic), row.payload) for row in rows]
