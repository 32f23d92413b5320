"""Every item on one board, whichever is free: the pure core of `map`.

A board is given a few items more than the one it measures, so that it never waits for us, and no
more than its share of what is left, so that none sits on work while others idle. What a lost board
owed goes to the others, first in line. A board measures in the order it was sent, so of all that it
owed only the first can have been its undoing: that one is suspected, the rest is innocent.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from icebus.client._evaluating.board_queue import Send, Slot
from icebus.client._evaluating.distribution import Account, Board, Failed
from icebus.client._evaluating.failure_causes import is_boards, is_lost
from icebus.schemas.errors import IcebusError

ATTEMPTS = 3
"""Times that an item may fail a board before it fails itself: a bitstream that breaks whatever
measures it must not take the whole farm with it."""

MIN_DEPTH = 2
"""Items on a board: the one it measures, and the next."""

MAX_DEPTH = 12
"""Items on a board, at most: what a client that dies leaves behind."""

COVER = 0.5
"""Seconds of measuring to have waiting on a board: twice the longest that results and calls take on
a busy machine, so that a call may be for half of them. Calls are what evaluating costs."""

AHEAD = 8
"""Items taken from the source and not given out, for as long as there are few boards."""

AHEAD_EACH = 4
"""The same for each board: they may all ask at once."""

FRESHNESS = 0.3
"""Weight of the last evaluation in what a board is taken to need for one."""

T = TypeVar("T")


@dataclass(eq=False)
class _Ticket(Generic[T]):
    """An item without an outcome."""

    number: int
    item: T
    sent: int = 0
    strikes: int = 0
    tried: set[str] = field(default_factory=set)
    evaluations: list[str] = field(default_factory=list)


@dataclass(eq=False)
class _Board(Board[T], Generic[T]):
    took: float | None = None
    depth: int = MIN_DEPTH

    def learn(self, took: float) -> None:
        old = took if self.took is None else self.took
        self.took = old + FRESHNESS * (took - old)
        self.depth = 1 + math.ceil(max(MIN_DEPTH - 1, min(MAX_DEPTH - 1, COVER / self.took)))


class Pool(Account[T, _Board[T]], Generic[T]):
    """The account of one batch whose items are each evaluated once, on any board.

    The first outcome of an item wins, whichever of its evaluations it comes from.

    Args:
        batch: its id, which evaluations' ids begin with.
        serials: the boards.
        total: items there will be, where known.
    """

    def __init__(self, batch: str, serials: Iterable[str], total: int | None = None) -> None:
        super().__init__(batch, serials)
        self._alive = list(self._boards.values())
        self._total = total
        self._known = 0
        self._fresh: deque[_Ticket[T]] = deque()
        self._again: deque[_Ticket[T]] = deque()
        self._open: dict[int, _Ticket[T]] = {}
        self._sent: dict[str, tuple[_Ticket[T], str]] = {}
        self._forsaken: IcebusError | None = None

    # --- how it is ----------------------------------------------------------------------------

    @property
    def copies(self) -> int:
        """The boards that each item goes to."""
        return 1

    @property
    def forgiving(self) -> bool:
        """Others measure what a lost board owes."""
        return True

    @property
    def forsaken(self) -> IcebusError | None:
        """Why it was given up, when it was."""
        return self._forsaken

    @property
    def hungry(self) -> bool:
        """Whether to add another item now. Without a board left nobody eats."""
        if self._ended or not self._alive:
            return False
        waiting = len(self._fresh) + len(self._again)
        return waiting < max(AHEAD, AHEAD_EACH * len(self._alive))

    @property
    def done(self) -> bool:
        """Whether every item has had its outcome."""
        return self._ended and not self._open

    # --- items in -----------------------------------------------------------------------------

    def add(self, item: T) -> list[Failed[T]]:
        """Add an item; it fails at once when the batch was given up."""
        ticket = _Ticket(self._known, item)
        self._known += 1
        if self._forsaken is not None:
            return [Failed(self._nowhere(ticket), self._forsaken)]
        self._open[ticket.number] = ticket
        self._fresh.append(ticket)
        return []

    def reject(self, item: T) -> list[Slot[T]]:
        """Count an item that is sent to no board: the slot that fails now."""
        self._known += 1
        return [self._nowhere(_Ticket(self._known - 1, item))]

    def _nowhere(self, ticket: _Ticket[T]) -> Slot[T]:
        return Slot("", f"{self.batch}-{ticket.number}", ticket.item)

    # --- calls out ----------------------------------------------------------------------------

    def due(self) -> list[Send[T]]:
        """What to send now; the board with the least to do is served first."""
        share = self._share(len(self._alive))
        # This is asked whenever something changes, and most boards are busy at any time.
        boards = [
            board
            for board in self._alive
            if self._ended or not board.talk.busy(min(board.depth, share))
        ]
        boards.sort(key=lambda board: len(board.talk.outstanding))
        return [send for board in boards if (send := self._due(board, share)) is not None]

    def _due(self, board: _Board[T], share: int) -> Send[T] | None:
        return board.talk.ask(
            min(board.depth, share),
            take=lambda room: self._take(board, room),
            more=lambda: not self._cancelled and not self.done,
        )

    def _share(self, boards: int) -> int:
        """What a board may have of what is left; all, while the end is not in sight."""
        if not boards or (self._total is None and not self._ended):
            return MAX_DEPTH
        to_come = 0 if self._ended else max(0, (self._total or 0) - self._known)
        return max(1, math.ceil((len(self._open) + to_come) / boards))

    def _take(self, board: _Board[T], room: int) -> list[Slot[T]]:
        slots: list[Slot[T]] = []
        while len(slots) < room and (ticket := self._next(board, first=not slots)) is not None:
            slots.append(self._assign(ticket, board.serial))
            if ticket.strikes:
                break
        return slots

    def _next(self, board: _Board[T], *, first: bool) -> _Ticket[T] | None:
        """The next item for a board; a suspect goes in a call of its own."""
        for index, ticket in enumerate(self._again):
            if not self._suits(ticket, board):
                continue
            if ticket.strikes and not first:
                return None
            del self._again[index]
            return ticket
        return self._fresh.popleft() if self._fresh else None

    def _suits(self, ticket: _Ticket[T], board: _Board[T]) -> bool:
        """Boards that an item has failed get it again only when there are no others."""
        return board.serial not in ticket.tried or all(
            other.serial in ticket.tried for other in self._alive
        )

    def _assign(self, ticket: _Ticket[T], serial: str) -> Slot[T]:
        ticket.sent += 1
        again = f"-{ticket.sent}" if ticket.sent > 1 else ""
        evaluation = f"{self.batch}-{ticket.number}{again}"
        ticket.evaluations.append(evaluation)
        self._sent[evaluation] = (ticket, serial)
        return Slot(serial, evaluation, ticket.item)

    def refused(self, serial: str, room: int) -> None:
        """The board took nothing of what it was sent last; any board may have it."""
        for slot in reversed(self._boards[serial].talk.refused(room)):
            found = self._sent.pop(slot.evaluation, None)
            if found is not None:
                ticket, _ = found
                ticket.evaluations.remove(slot.evaluation)
                self._return(ticket)

    # --- outcomes in --------------------------------------------------------------------------

    def settle(self, serial: str, evaluation: str, took: float | None = None) -> Slot[T] | None:
        """An outcome has come: the slot when it is its item's first, None when it is to be dropped.

        It may come from a board that was lost: then another may be measuring the item for nothing.
        """
        board = self._boards.get(serial)
        if board is None:
            return None
        if board.talk.settle(evaluation) is not None and took:
            board.learn(took)
        ticket = self._of(serial, evaluation)
        if ticket is None:
            return None
        self._close(ticket)
        return Slot(serial, evaluation, ticket.item)

    def fail(self, serial: str, evaluation: str, error: IcebusError) -> list[Failed[T]]:
        """An evaluation has failed on a board: if by the board's fault, another is to try."""
        board = self._boards.get(serial)
        if board is None:
            return []
        owed = evaluation in board.talk.outstanding
        if owed and is_lost(error):
            return self.lose(serial, error)
        board.talk.settle(evaluation)
        ticket = self._of(serial, evaluation)
        if ticket is None:
            return []
        if not is_lost(error) and not is_boards(error):
            self._close(ticket)
            return [Failed(Slot(serial, evaluation, ticket.item), error)]
        # Not owed: of a board that was lost, and being tried again already.
        return self._strike(ticket, Slot(serial, evaluation, ticket.item), error) if owed else []

    # --- boards that go and come --------------------------------------------------------------

    def give_up(self, error: IcebusError) -> list[Failed[T]]:
        """No lost board will come back: all that has no outcome fails."""
        self._forsaken = error
        failed = [Failed(self._nowhere(ticket), error) for ticket in self._open.values()]
        for ticket in list(self._open.values()):
            self._close(ticket)
        self._forget()
        return failed

    def _board(self, serial: str, number: int) -> _Board[T]:
        return _Board(serial, number)

    def _lost(
        self, board: _Board[T], owed: Sequence[Slot[T]], error: IcebusError
    ) -> list[Failed[T]]:
        """Others get what it owed, unless it was an item's last attempt."""
        self._alive.remove(board)
        failed: list[Failed[T]] = []
        for index, slot in reversed(list(enumerate(owed))):
            ticket = self._of(slot.serial, slot.evaluation)
            if ticket is None:
                continue
            if index == 0:
                failed += self._strike(ticket, slot, error)
            else:
                self._return(ticket)
        return failed

    def _revived(self, board: _Board[T]) -> None:
        self._alive.append(board)
        self._forsaken = None

    def _forget(self) -> None:
        self._fresh.clear()
        self._again.clear()

    def _of(self, serial: str, evaluation: str) -> _Ticket[T] | None:
        ticket, where = self._sent.get(evaluation, (None, ""))
        return ticket if where == serial else None

    def _strike(self, ticket: _Ticket[T], slot: Slot[T], error: IcebusError) -> list[Failed[T]]:
        ticket.strikes += 1
        ticket.tried.add(slot.serial)
        if ticket.strikes < ATTEMPTS:
            self._return(ticket)
            return []
        self._close(ticket)
        return [Failed(slot, _last(error, ticket))]

    def _return(self, ticket: _Ticket[T]) -> None:
        if not self._cancelled:
            self._again.appendleft(ticket)

    def _close(self, ticket: _Ticket[T]) -> None:
        del self._open[ticket.number]
        for evaluation in ticket.evaluations:
            del self._sent[evaluation]
        if ticket in self._again:
            self._again.remove(ticket)


def _last(error: IcebusError, ticket: _Ticket[T]) -> IcebusError:
    boards = sorted(ticket.tried)
    return type(error)(
        f"{error.message} (attempt {ticket.strikes} of {ATTEMPTS}, on {', '.join(boards)})",
        **{**error.details, "attempts": ticket.strikes, "tried": boards},
    )
