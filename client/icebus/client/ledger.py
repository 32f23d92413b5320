"""Which evaluation is where: the pure core of evaluating many bitstreams on many boards.

Every item is evaluated once on every board. A ledger decides which board is to be sent what and
when, and counts outcomes: the first one of an evaluation wins. It does no I/O, knows no clock and
needs no lock; its owner brings those.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

DEPTH = 8
"""Evaluations on a board without an outcome, at most. Enough to keep a 50 ms window busy through a
delay of 0.2 s, few enough that a client that dies leaves little behind."""

AHEAD = 8
"""Items taken from the source beyond what the fastest board was sent: boards go on with these while
the program that reads the outcomes is busy."""

SPREAD = 64
"""Items kept at most between the slowest and the fastest board, which bounds memory."""

T = TypeVar("T")


@dataclass(frozen=True)
class Slot(Generic[T]):
    """One item on one board.

    Attributes:
        serial: the board.
        evaluation: the id under which its outcome comes.
        item: what is evaluated.
    """

    serial: str
    evaluation: str
    item: T


@dataclass(frozen=True)
class Send(Generic[T]):
    """What to send to one board in one call.

    Attributes:
        serial: the board.
        slots: the evaluations; empty when there is only the end to tell.
        more: whether further calls of this batch will follow for this board.
    """

    serial: str
    slots: tuple[Slot[T], ...]
    more: bool


@dataclass
class _Board(Generic[T]):
    serial: str
    number: int
    cursor: int = 0
    again: deque[Slot[T]] = field(default_factory=deque)
    outstanding: dict[str, Slot[T]] = field(default_factory=dict)
    asking: Send[T] | None = None
    started: bool = False
    closed: bool = False
    held: bool = False
    unsure: bool = False
    limit: int | None = None
    lost: bool = False


class Ledger(Generic[T]):
    """The account of one batch.

    Args:
        batch: its id, which evaluations' ids begin with.
        serials: the boards.
        depth: evaluations on a board without an outcome, at most.
        ahead: items to take beyond what the fastest board was sent.
        spread: items to keep between the slowest and the fastest board, at most.
    """

    def __init__(
        self,
        batch: str,
        serials: Iterable[str],
        depth: int = DEPTH,
        ahead: int = AHEAD,
        spread: int = SPREAD,
    ) -> None:
        self.batch = batch
        self._boards = {serial: _Board[T](serial, number) for number, serial in enumerate(serials)}
        self._depth = depth
        self._ahead = ahead
        self._spread = spread
        self._items: deque[T] = deque()
        self._base = 0
        self._rejected = 0
        self._ended = False
        self._cancelled = False

    # --- items in -----------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether no more items will come."""
        return self._ended

    @property
    def alive(self) -> list[str]:
        """The boards that are not lost."""
        return [board.serial for board in self._boards.values() if not board.lost]

    @property
    def hungry(self) -> bool:
        """Whether to add another item now. Without a board left nobody eats."""
        cursors = [board.cursor for board in self._boards.values() if not board.lost]
        if self._ended or not cursors:
            return False
        known = self._base + len(self._items)
        return known - max(cursors) < self._ahead and known - min(cursors) < self._spread

    def add(self, item: T) -> list[Slot[T]]:
        """Add an item for every board; those returned fail now, because their board is lost."""
        index = self._base + len(self._items)
        self._items.append(item)
        dead = [_slot(self.batch, b, index, item) for b in self._boards.values() if b.lost]
        self._trim()
        return dead

    def reject(self, item: T) -> list[Slot[T]]:
        """Count an item that is sent to no board: the slots that fail now."""
        self._rejected += 1
        return [
            Slot(board.serial, f"{self.batch}-r{self._rejected - 1}-{board.number}", item)
            for board in self._boards.values()
        ]

    def end(self) -> None:
        """No more items will come."""
        self._ended = True

    def cancel(self) -> None:
        """Nobody waits for outcomes any more: send nothing that was not sent."""
        self._ended = self._cancelled = True
        for board in self._boards.values():
            board.cursor = self._base + len(self._items)
            board.again.clear()
            board.held = False
        self._trim()

    # --- calls out ----------------------------------------------------------------------------

    def due(self) -> list[Send[T]]:
        """What to send now. Each board is told one thing at a time: answer before asking again."""
        sends = [send for board in self._boards.values() if (send := self._due(board)) is not None]
        self._trim()
        return sends

    def _due(self, board: _Board[T]) -> Send[T] | None:
        if board.lost or board.held or board.asking is not None:
            return None
        if board.unsure and board.outstanding:
            board.unsure = False
            more = not (self._ended and self._exhausted(board))
            board.asking = Send(board.serial, tuple(board.outstanding.values()), more)
            return board.asking
        if board.closed:
            return None
        slots: list[Slot[T]] = []
        if len(board.outstanding) <= self._depth // 2:
            room = self._depth - len(board.outstanding)
            if board.limit is not None:
                room = min(room, board.limit)
            while len(slots) < room and (slot := self._next(board)) is not None:
                slots.append(slot)
        more = not (self._ended and self._exhausted(board))
        if not slots and (more or not board.started):
            return None
        board.outstanding.update((slot.evaluation, slot) for slot in slots)
        board.asking = Send(board.serial, tuple(slots), more)
        board.started = True
        return board.asking

    def _next(self, board: _Board[T]) -> Slot[T] | None:
        if board.again:
            return board.again.popleft()
        return self._unsent(board)

    def _unsent(self, board: _Board[T]) -> Slot[T] | None:
        if board.cursor >= self._base + len(self._items):
            return None
        slot = _slot(self.batch, board, board.cursor, self._items[board.cursor - self._base])
        board.cursor += 1
        return slot

    def _exhausted(self, board: _Board[T]) -> bool:
        return not board.again and board.cursor >= self._base + len(self._items)

    def accepted(self, serial: str) -> None:
        """The board took what it was sent last."""
        board = self._boards[serial]
        if board.asking is not None:
            board.closed = not board.asking.more
            board.asking = None
            board.limit = None

    def refused(self, serial: str, room: int) -> None:
        """The board's queue was too full for what it was sent last.

        Nothing is sent there until an outcome comes from it or :meth:`nudge` is called, and then
        no more than ``room`` at once.
        """
        board = self._boards[serial]
        if board.asking is None:
            return
        back = [s for s in board.asking.slots if board.outstanding.pop(s.evaluation, None)]
        board.asking = None
        if self._cancelled:
            return
        board.again.extendleft(reversed(back))
        board.held = True
        board.limit = max(1, room)

    def doubt(self) -> None:
        """Outcomes may have been lost on their way: ask for all that is outstanding again.

        Workers repeat the outcomes they have, and measure nothing twice.
        """
        for board in self._boards.values():
            board.unsure = bool(board.outstanding)

    def nudge(self, serial: str) -> None:
        """Let a board that refused be tried again."""
        self._boards[serial].held = False

    # --- outcomes in --------------------------------------------------------------------------

    def settle(self, serial: str, evaluation: str) -> Slot[T] | None:
        """An outcome has come: the slot when it is the first one, None when it is to be dropped."""
        board = self._boards.get(serial)
        if board is None:
            return None
        board.held = False
        slot = board.outstanding.pop(evaluation, None)
        if slot is None:
            slot = next((each for each in board.again if each.evaluation == evaluation), None)
            if slot is not None:
                board.again.remove(slot)
        return slot

    def lose(self, serial: str) -> list[Slot[T]]:
        """The board is lost: all its slots that now fail, sent or not."""
        board = self._boards.get(serial)
        if board is None or board.lost:
            return []
        failed = [*board.outstanding.values(), *board.again]
        while (slot := self._unsent(board)) is not None:
            failed.append(slot)
        board.lost = True
        board.outstanding.clear()
        board.again.clear()
        board.asking = None
        self._trim()
        return failed

    def outstanding(self, serial: str) -> int:
        """Evaluations sent to the board and without an outcome."""
        return len(self._boards[serial].outstanding)

    @property
    def done(self) -> bool:
        """Whether every evaluation has had its outcome."""
        return self._ended and all(
            board.lost or (not board.outstanding and self._exhausted(board))
            for board in self._boards.values()
        )

    def _trim(self) -> None:
        end = self._base + len(self._items)
        needed = min((b.cursor for b in self._boards.values() if not b.lost), default=end)
        while self._base < needed:
            self._items.popleft()
            self._base += 1


def _slot(batch: str, board: _Board[T], index: int, item: T) -> Slot[T]:
    return Slot(board.serial, f"{batch}-{index}-{board.number}", item)
