"""Every item on every board, or on those that are chosen for it: the pure core of `evaluate`."""

from __future__ import annotations

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
from icebus.schemas.errors import IcebusError

DEPTH = 8
"""Evaluations on a board without an outcome, at most. Enough to keep a 50 ms window busy through a
delay of 0.2 s, few enough that a client that dies leaves little behind."""

AHEAD = 8
"""Items taken from the source beyond what the fastest board was sent: boards go on with these while
the program that reads the outcomes is busy."""

SPREAD = 64
"""Items kept at most between the slowest and the fastest board, which bounds memory."""

T = TypeVar("T")


@dataclass(eq=False)
class _State(BoardState[T], Generic[T]):
    unsent: deque[Evaluation[T]] = field(default_factory=deque)


class EachBoard(Distribution[T, _State[T]], Generic[T]):
    """Distributes one batch whose items are each evaluated once on each board that is theirs.

    The first outcome of an evaluation wins. What a board owes when it is lost fails, and so does
    what is added until it is back or another takes its place. That one begins with what is added
    from then on, so that each item has one outcome for each place.

    Args:
        batch: its id, which evaluations' ids begin with.
        serials: the boards.
        waits_for_replacement: whether others may take the place of lost boards, so that when all
            are lost it is not over before it is given up.
    """

    def __init__(
        self, batch: str, serials: Iterable[str], *, waits_for_replacement: bool = False
    ) -> None:
        super().__init__(batch, serials)
        self._known = 0
        self._waits_for_replacement = waits_for_replacement
        self._given_up = False
        self._rejected = 0

    # --- how it is ----------------------------------------------------------------------------

    @property
    def copies(self) -> int:
        """The boards that an item goes to for which none are chosen."""
        return len(self._places)

    @property
    def _places(self) -> list[_State[T]]:
        return [board for board in self._boards.values() if not board.retired]

    @property
    def reassigns(self) -> bool:
        """Nobody else measures what a lost board owes."""
        return False

    @property
    def no_board_error(self) -> IcebusError | None:
        """The first loss, when no board is left: this does not wait for one's return."""
        losses = self.losses
        if len(losses) < len(self._boards) or (self._waits_for_replacement and not self._given_up):
            return None
        return next(iter(losses.values()))

    @property
    def wants_more(self) -> bool:
        """Whether to add another item now. Not without a board that could evaluate it."""
        waiting = [len(board.unsent) for board in self._boards.values() if board.loss is None]
        return not self._ended and bool(waiting) and min(waiting) < AHEAD and max(waiting) < SPREAD

    @property
    def done(self) -> bool:
        """Whether every evaluation has had its outcome."""
        return self._ended and all(
            board.loss is not None or not (board.queue.outstanding or board.unsent)
            for board in self._boards.values()
        )

    # --- items in -----------------------------------------------------------------------------

    def add(self, item: T, serials: Sequence[str] | None = None) -> list[FailedEvaluation[T]]:
        """Add an item for every board, or for those; it fails at once on those that are lost."""
        index = self._known
        self._known += 1
        failed: list[FailedEvaluation[T]] = []
        for board in self._chosen(serials):
            evaluation = Evaluation(board.serial, f"{self.batch}-{index}-{board.number}", item)
            if board.loss is None:
                board.unsent.append(evaluation)
            else:
                failed.append(FailedEvaluation(evaluation, board.loss))
        return failed + self._fail_on_strangers(f"{self.batch}-{index}", item, serials)

    def reject(self, item: T, serials: Sequence[str] | None = None) -> list[Evaluation[T]]:
        """Count an item that is sent to no board: the evaluations that fail now."""
        self._rejected += 1
        return [
            Evaluation(board.serial, f"{self.batch}-r{self._rejected - 1}-{board.number}", item)
            for board in self._chosen(serials)
        ]

    def _chosen(self, serials: Sequence[str] | None) -> list[_State[T]]:
        if serials is None:
            return self._places
        return [board for serial in serials if (board := self._boards.get(serial)) is not None]

    # --- calls out ----------------------------------------------------------------------------

    def due(self) -> list[EvaluateCall[T]]:
        """What to send now."""
        boards = self._boards.values()
        return [call for board in boards if (call := self._due(board)) is not None]

    def _due(self, board: _State[T]) -> EvaluateCall[T] | None:
        if board.loss is not None:
            return None
        return board.queue.next_call(
            DEPTH,
            take=lambda room: [board.unsent.popleft() for _ in range(min(room, len(board.unsent)))],
            more=lambda: not self._ended or bool(board.unsent),
        )

    def refused(self, serial: str, room: int) -> None:
        """The board took nothing of what it was sent last; it is to be sent the same again."""
        board = self._boards[serial]
        back = board.queue.refused(room)
        if not self._cancelled:
            board.unsent.extendleft(reversed(back))

    # --- outcomes in --------------------------------------------------------------------------

    def complete(
        self, serial: str, evaluation_id: str, took: float | None = None
    ) -> Evaluation[T] | None:
        """An outcome has come: its evaluation if it is the first, else None."""
        board = self._boards.get(serial)
        if board is None:
            return None
        evaluation = board.queue.complete(evaluation_id)
        if evaluation is None:
            # It may have been refused, and yet be there.
            evaluation = next((each for each in board.unsent if each.id == evaluation_id), None)
            if evaluation is not None:
                board.unsent.remove(evaluation)
        return evaluation

    def fail(
        self, serial: str, evaluation_id: str, error: IcebusError
    ) -> list[FailedEvaluation[T]]:
        """An evaluation has failed, which is its outcome: on that board it had to be."""
        evaluation = self.complete(serial, evaluation_id)
        return [] if evaluation is None else [FailedEvaluation(evaluation, error)]

    # --- boards that go and come --------------------------------------------------------------

    def give_up(self, error: IcebusError) -> list[FailedEvaluation[T]]:
        """No lost board will come back: all that they owed has failed already."""
        self._given_up = True
        return []

    def _board(self, serial: str, number: int) -> _State[T]:
        return _State(serial, number)

    def _lost(
        self, board: _State[T], owed: Sequence[Evaluation[T]], error: IcebusError
    ) -> list[FailedEvaluation[T]]:
        """All its evaluations fail now, sent or not."""
        failed = [FailedEvaluation(evaluation, error) for evaluation in (*owed, *board.unsent)]
        board.unsent.clear()
        return failed

    def _rejoined(self, board: _State[T]) -> None:
        """It takes part in what is added from now on."""
        self._given_up = False

    def _drop_unsent(self) -> None:
        for board in self._boards.values():
            board.unsent.clear()
