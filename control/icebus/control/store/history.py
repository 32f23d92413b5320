"""The history, read in pages. Each transaction writes its own."""

from __future__ import annotations

from sqlmodel import Session, col, select

from icebus.control.store.tables import HistoryRow
from icebus.schemas.operations.history import HistoryArgs, HistoryEntry


def read(session: Session, args: HistoryArgs) -> list[HistoryEntry]:
    """The newest entries that match, newest first."""
    query = select(HistoryRow).order_by(col(HistoryRow.number).desc()).limit(args.limit)
    for column, wanted in (
        (HistoryRow.user, args.user),
        (HistoryRow.reservation, args.reservation),
        (HistoryRow.serial, args.serial),
        (HistoryRow.worker, args.worker),
    ):
        if wanted is not None:
            query = query.where(col(column) == wanted)
    if args.events is not None:
        query = query.where(col(HistoryRow.event).in_(args.events))
    if args.since is not None:
        query = query.where(col(HistoryRow.at) >= args.since)
    if args.before is not None:
        query = query.where(col(HistoryRow.number) < args.before)
    return [HistoryEntry.model_validate(row.model_dump()) for row in session.exec(query)]
