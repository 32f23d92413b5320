"""Which devices a request means: people type serials in lower case, too."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel
from sqlalchemy import func
from sqlmodel import col, select

from icebus.control.store.tables import DeviceRow
from icebus.control.transaction import Transaction
from icebus.schemas.ids import meant

A = TypeVar("A", bound=BaseModel)


def with_devices_meant(transaction: Transaction, args: A) -> A:
    """The arguments of a request, with the serials of the devices that it means."""
    several, one = getattr(args, "serials", None), getattr(args, "serial", None)
    named = [*(several or ()), *([one] if one is not None else ())]
    if not named:
        return args
    query = select(DeviceRow.serial).where(
        func.lower(col(DeviceRow.serial)).in_({name.lower() for name in named})
    )
    known = list(transaction.session.exec(query))
    update: dict[str, object] = {}
    if several:
        update["serials"] = meant(several, known)
    if one is not None:
        update["serial"] = meant([one], known)[0]
    return args.model_copy(update=update)
