"""The name under which the controls of one database share the subscription to requests.

A broker grants a shared subscription to anybody who names its group, deals messages to that
subscriber too, and then drops them by its access list: whoever knew the name could make requests of
others vanish. So it is random, is kept here, and is told to nobody but the broker.
"""

from __future__ import annotations

import secrets
from typing import ClassVar

from sqlmodel import Field, SQLModel

from icebus.control.store.database import Database

RANDOM_BYTES = 16

_THE_ONE = "requests"


class SharedGroupRow(SQLModel, table=True):
    """The name. There is one."""

    __tablename__: ClassVar[str] = "shared_groups"

    name: str = Field(primary_key=True, max_length=64)
    secret: str = Field(max_length=64, description="What nobody can guess: never log it.")


def shared_group(database: Database) -> str:
    """The secret that all controls of this database share; made by the first that asks.

    Raises:
        DBAPIError: the database does not answer.
    """
    with database.exclusive() as session:
        row = session.get(SharedGroupRow, _THE_ONE)
        if row is None:
            row = SharedGroupRow(name=_THE_ONE, secret=secrets.token_hex(RANDOM_BYTES))
            session.add(row)
        return row.secret
