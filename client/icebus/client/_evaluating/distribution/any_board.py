"""Every item on one board, whichever is free: the pure core of `map`.

A board is given a few items more than the one it measures, so that it never waits for us, and no
more than its share of what is left, so that none sits on work while others idle. What a lost board
owed goes to the others, first in line. A board measures in the order it was sent, so of all that it
owed only the first can have made it fail: that is counted against this one, not against the rest.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from icebus.client._evaluating.distribution.board_queue import EvaluateCall, Evaluation
from icebus.client._evaluating.distribution.distribution import (
    BoardState,
    Distribution,
    FailedEvaluation,
)
from icebus.client._evaluating.distribution.failure_causes import (
    may_be_the_boards_fault,
    means_board_is_lost,
)
from icebus.schemas.errors import IcebusError

ATTEMPTS = 3
"""Times that an item may fail a board before it fails itself: a bitstream that breaks whatever
measures it must not take the whole farm with it."""

MIN_DEPTH = 2
"""Items on a board: the one it measures, and the next."""

MAX_DEPTH = 12
"""Items on a board, at most: what a client that dies leaves behind."""

BACKLOG = 0.5
"""Seconds of measuring to have waiting on a board: twice the longest that results and calls take on
a busy machine, so that a call may be for half of them. Calls are what evaluating costs."""

AHEAD = 8
"""Items taken from the source and not given out, for as long as there are few boards."""

AHEAD_EACH = 4
"""The same for each board: they may all ask at once."""

SMOOTHING = 0.3
"""Weight of the last evaluation in what a board is taken to need for one."""

SPREAD = 256
"""Items kept at most for boards that were chosen for them, which bounds memory."""

T = TypeVar("T")


@dataclass(eq=False)
class _PendingItem(Generic[T]):
    """An item without an outcome."""

    number: int
    item: T
    only: str | None = None
    sent: int = 0
    failed_attempts: int = 0
    tried: set[str] = field(default_factory=set)
    evaluation_ids: list[str] = field(default_factory=list)


@dataclass(eq=False)
class _State(BoardState[T], Generic[T]):
    took: float | None = None
    depth: int = MIN_DEPTH
    unsent: deque[_PendingItem[T]] = field(default_factory=deque)

    def update_depth(self, took: float) -> None:
        old = took if self.took is None else self.took
        self.took = old + SMOOTHING * (took - old)
        self.depth = 1 + math.ceil(max(MIN_DEPTH - 1, min(MAX_DEPTH - 1, BACKLOG / self.took)))


class AnyBoard(Distribution[T, _State[T]], Generic[T]):
    """Distributes one batch whose items are each evaluated once, on any board.

    The first outcome of an item wins, whichever of its evaluations it comes from. Items for which
    boards are chosen are evaluated once on each of these, first, and fail with them.

    Args:
        batch: its id, which evaluations' ids begin with.
        serials: the boards.
        total: items there will be, where known.
    """

    def __init__(self, batch: str, serials: Iterable[str], total: int | None = None) -> None:
        super().__init__(batch, serials)
        self._working = list(self._boards.values())
        self._total = total
        self._known = 0
        self._added = 0
        self._unsent: deque[_PendingItem[T]] = deque()
        self._returned: deque[_PendingItem[T]] = deque()
        self._pending: dict[int, _PendingItem[T]] = {}
        self._sent: dict[str, tuple[_PendingItem[T], str]] = {}
        self._no_board_error: IcebusError | None = None

    # --- how it is ----------------------------------------------------------------------------

    @property
    def copies(self) -> int:
        """The boards that an item goes to for which none are chosen."""
        return 1

    @property
    def reassigns(self) -> bool:
        """Others measure what a lost board owes."""
        return True

    @property
    def no_board_error(self) -> IcebusError | None:
        """Why it was given up, when it was."""
        return self._no_board_error

    @property
    def wants_more(self) -> bool:
        """Whether to add another item now. Not without a board that could evaluate it."""
        if self._ended or not self._working:
            return False
        waiting = len(self._unsent) + len(self._returned)
        chosen = sum(len(board.unsent) for board in self._working)
        return waiting < max(AHEAD, AHEAD_EACH * len(self._working)) and chosen < SPREAD

    @property
    def done(self) -> bool:
        """Whether every item has had its outcome."""
        return self._ended and not self._pending

    # --- items in -----------------------------------------------------------------------------

    def add(self, item: T, serials: Sequence[str] | None = None) -> list[FailedEvaluation[T]]:
        """Add an item; it fails at once when the batch was given up, or its board is lost."""
        self._added += 1
        if serials is None:
            pending = self._next_item(item)
            if self._no_board_error is not None:
                return [FailedEvaluation(self._on_no_board(pending), self._no_board_error)]
            self._pending[pending.number] = pending
            self._unsent.append(pending)
            return []
        failed = self._fail_on_strangers(f"{self.batch}-{self._known}", item, serials)
        for serial in serials:
            board = self._boards.get(serial)
            if board is None:
                continue
            pending = self._next_item(item, only=serial)
            if board.loss is not None:
                failed.append(FailedEvaluation(self._on_no_board(pending), board.loss))
            else:
                self._pending[pending.number] = pending
                board.unsent.append(pending)
        return failed

    def reject(self, item: T, serials: Sequence[str] | None = None) -> list[Evaluation[T]]:
        """Count an item that is sent to no board: the evaluations that fail now."""
        self._added += 1
        boards: Sequence[str | None] = [None] if serials is None else serials
        return [self._on_no_board(self._next_item(item, only=serial)) for serial in boards]

    def _next_item(self, item: T, only: str | None = None) -> _PendingItem[T]:
        self._known += 1
        return _PendingItem(self._known - 1, item, only)

    def _on_no_board(self, pending: _PendingItem[T]) -> Evaluation[T]:
        return Evaluation(pending.only or "", f"{self.batch}-{pending.number}", pending.item)

    # --- calls out ----------------------------------------------------------------------------

    def due(self) -> list[EvaluateCall[T]]:
        """What to send now; the board with the least to do is served first."""
        share = self._share(len(self._working))
        # This is asked whenever something changes, and most boards are busy at any time.
        boards = [
            board
            for board in self._working
            if self._ended or not board.queue.busy(min(board.depth, share))
        ]
        boards.sort(key=lambda board: len(board.queue.outstanding))
        return [call for board in boards if (call := self._due(board, share)) is not None]

    def _due(self, board: _State[T], share: int) -> EvaluateCall[T] | None:
        return board.queue.next_call(
            min(board.depth, share),
            take=lambda room: self._take(board, room),
            more=lambda: not self._cancelled and not self.done,
        )

    def _share(self, boards: int) -> int:
        """What a board may have of what is left; all, while the end is not in sight."""
        if not boards or (self._total is None and not self._ended):
            return MAX_DEPTH
        to_come = 0 if self._ended else max(0, (self._total or 0) - self._added)
        return max(1, math.ceil((len(self._pending) + to_come) / boards))

    def _take(self, board: _State[T], room: int) -> list[Evaluation[T]]:
        evaluations: list[Evaluation[T]] = []
        while (
            len(evaluations) < room
            and (pending := self._next(board, first=not evaluations)) is not None
        ):
            evaluations.append(self._assign(pending, board.serial))
            if pending.failed_attempts:
                break
        return evaluations

    def _next(self, board: _State[T], *, first: bool) -> _PendingItem[T] | None:
        """The next item for a board; one that has failed a board goes in a call of its own."""
        for index, pending in enumerate(self._returned):
            if not self._may_try(pending, board):
                continue
            if pending.failed_attempts and not first:
                return None
            del self._returned[index]
            return pending
        if board.unsent:
            return board.unsent.popleft()
        return self._unsent.popleft() if self._unsent else None

    def _may_try(self, pending: _PendingItem[T], board: _State[T]) -> bool:
        """Boards that an item has failed get it again only when there are no others."""
        if pending.only is not None:
            return pending.only == board.serial
        return board.serial not in pending.tried or all(
            other.serial in pending.tried for other in self._working
        )

    def _assign(self, pending: _PendingItem[T], serial: str) -> Evaluation[T]:
        pending.sent += 1
        again = f"-{pending.sent}" if pending.sent > 1 else ""
        evaluation_id = f"{self.batch}-{pending.number}{again}"
        pending.evaluation_ids.append(evaluation_id)
        self._sent[evaluation_id] = (pending, serial)
        return Evaluation(serial, evaluation_id, pending.item)

    def refused(self, serial: str, room: int) -> None:
        """The board took nothing of what it was sent last; any board may have it."""
        for evaluation in reversed(self._boards[serial].queue.refused(room)):
            found = self._sent.pop(evaluation.id, None)
            if found is not None:
                pending, _ = found
                pending.evaluation_ids.remove(evaluation.id)
                self._return(pending)

    # --- outcomes in --------------------------------------------------------------------------

    def complete(
        self, serial: str, evaluation_id: str, took: float | None = None
    ) -> Evaluation[T] | None:
        """An outcome has come: its evaluation if it is its item's first outcome, else None.

        It may come from a board that was lost: then another may be measuring the item for nothing.
        """
        board = self._boards.get(serial)
        if board is None:
            return None
        if board.queue.complete(evaluation_id) is not None and took:
            board.update_depth(took)
        pending = self._of(serial, evaluation_id)
        if pending is None:
            return None
        self._forget(pending)
        return Evaluation(serial, evaluation_id, pending.item)

    def fail(
        self, serial: str, evaluation_id: str, error: IcebusError
    ) -> list[FailedEvaluation[T]]:
        """An evaluation has failed on a board: if by the board's fault, another is to try."""
        board = self._boards.get(serial)
        if board is None:
            return []
        owed = evaluation_id in board.queue.outstanding
        if owed and means_board_is_lost(error):
            return self.lose(serial, error)
        board.queue.complete(evaluation_id)
        pending = self._of(serial, evaluation_id)
        if pending is None:
            return []
        if not means_board_is_lost(error) and not may_be_the_boards_fault(error):
            self._forget(pending)
            return [FailedEvaluation(Evaluation(serial, evaluation_id, pending.item), error)]
        # Not owed: of a board that was lost, and being tried again already.
        return (
            self._count_failure(pending, Evaluation(serial, evaluation_id, pending.item), error)
            if owed
            else []
        )

    # --- boards that go and come --------------------------------------------------------------

    def give_up(self, error: IcebusError) -> list[FailedEvaluation[T]]:
        """No lost board will come back: all that has no outcome fails."""
        self._no_board_error = error
        failed = [
            FailedEvaluation(self._on_no_board(pending), error)
            for pending in self._pending.values()
        ]
        for pending in list(self._pending.values()):
            self._forget(pending)
        self._drop_unsent()
        return failed

    def _board(self, serial: str, number: int) -> _State[T]:
        return _State(serial, number)

    def _lost(
        self, board: _State[T], owed: Sequence[Evaluation[T]], error: IcebusError
    ) -> list[FailedEvaluation[T]]:
        """Others get what it owed, unless it was an item's last attempt or for this board only."""
        self._working.remove(board)
        failed = self._fail_chosen(board, error)
        for index, evaluation in reversed(list(enumerate(owed))):
            pending = self._of(evaluation.serial, evaluation.id)
            if pending is None:
                continue
            if index == 0:
                failed += self._count_failure(pending, evaluation, error)
            else:
                self._return(pending)
        return failed

    def _fail_chosen(self, board: _State[T], error: IcebusError) -> list[FailedEvaluation[T]]:
        """What it was chosen for fails with it."""
        chosen = [each for each in self._pending.values() if each.only == board.serial]
        for pending in chosen:
            self._forget(pending)
        board.unsent.clear()
        return [FailedEvaluation(self._on_no_board(pending), error) for pending in chosen]

    def _rejoined(self, board: _State[T]) -> None:
        self._working.append(board)
        self._no_board_error = None

    def _drop_unsent(self) -> None:
        self._unsent.clear()
        self._returned.clear()
        for board in self._boards.values():
            board.unsent.clear()

    def _of(self, serial: str, evaluation_id: str) -> _PendingItem[T] | None:
        pending, where = self._sent.get(evaluation_id, (None, ""))
        return pending if where == serial else None

    def _count_failure(
        self, pending: _PendingItem[T], evaluation: Evaluation[T], error: IcebusError
    ) -> list[FailedEvaluation[T]]:
        pending.failed_attempts += 1
        pending.tried.add(evaluation.serial)
        if pending.failed_attempts < ATTEMPTS and pending.only is None:
            self._return(pending)
            return []
        self._forget(pending)
        return [FailedEvaluation(evaluation, _last(error, pending))]

    def _return(self, pending: _PendingItem[T]) -> None:
        if not self._cancelled:
            self._returned.appendleft(pending)

    def _forget(self, pending: _PendingItem[T]) -> None:
        del self._pending[pending.number]
        for evaluation_id in pending.evaluation_ids:
            del self._sent[evaluation_id]
        if pending in self._returned:
            self._returned.remove(pending)


def _last(error: IcebusError, pending: _PendingItem[T]) -> IcebusError:
    if pending.only is not None:
        return error
    attempts, boards = pending.failed_attempts, sorted(pending.tried)
    return type(error)(
        f"{error.message} (attempt {attempts} of {ATTEMPTS}, on {', '.join(boards)})",
        **{**error.details, "attempts": attempts, "tried": boards},
    )
