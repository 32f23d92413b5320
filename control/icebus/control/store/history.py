"""The history: read in pages, dropped when it is old. Written by :meth:`Work.record`."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete
from sqlmodel import col, select

from icebus.control.store.tables import HistoryRow
from icebus.control.store.transaction import Work
from icebus.schemas.history import HistoryArgs, HistoryEntry, HistoryReply


def history(work: Work, _user: str, args: HistoryArgs) -> HistoryReply:
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
    rows = work.session.exec(query)
    return HistoryReply(entries=[HistoryEntry.model_validate(row.model_dump()) for row in rows])


def prune(work: Work) -> None:
    """Drop what is too old."""
    oldest = work.now - timedelta(days=work.settings.history_days)
    work.session.execute(delete(HistoryRow).where(col(HistoryRow.at) < oldest))
