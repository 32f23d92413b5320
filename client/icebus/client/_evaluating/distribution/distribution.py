"""Distributing a batch: what goes to which board, and what has come of it. Pure.

What :mod:`.each_board` and :mod:`.any_board` have in common, and what a run needs of either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from icebus.client._evaluating.distribution.board_queue import BoardQueue, EvaluateCall, Evaluation
from icebus.client._evaluating.distribution.failure_causes import LASTING
from icebus.schemas.errors import DeviceNotHeld, IcebusError

T = TypeVar("T")


@dataclass(frozen=True)
class FailedEvaluation(Generic[T]):
    """An evaluation that will have no result, and why."""

    evaluation: Evaluation[T]
    error: IcebusError


@dataclass(eq=False)
class BoardState(Generic[T]):
    """A board of a batch.

    Attributes:
        serial: its serial.
        number: counts the boards of the batch, from 0.
        loss: why it is lost; None while it is not.
        retired: whether another has taken its place.
        queue: what it was sent and owes.
    """

    serial: str
    number: int
    loss: IcebusError | None = None
    retired: bool = False
    queue: BoardQueue[T] = field(init=False)

    def __post_init__(self) -> None:
        self.queue = BoardQueue(self.serial)


B = TypeVar("B", bound=BoardState[Any])


class Distribution(ABC, Generic[T, B]):
    """Distributes one batch over boards; ``B`` is what it knows of a board.

    It does no I/O, knows no clock and needs no lock; its owner brings those.

    Args:
        batch: its id, which evaluations' ids begin with.
        serials: the boards.

    Attributes:
        batch: the batch's id.
    """

    def __init__(self, batch: str, serials: Iterable[str]) -> None:
        self.batch = batch
        self._boards = {s: self._board(s, number) for number, s in enumerate(serials)}
        self._ended = False
        self._cancelled = False

    # --- how it is ----------------------------------------------------------------------------

    @property
    @abstractmethod
    def copies(self) -> int:
        """The boards that an item goes to for which none are chosen."""

    @property
    @abstractmethod
    def reassigns(self) -> bool:
        """Whether what a lost board owes may have a result all the same, from another."""

    @property
    def serials(self) -> Set[str]:
        """All its boards, also those that are lost."""
        return self._boards.keys()

    @property
    def losses(self) -> Mapping[str, IcebusError]:
        """The boards that are lost, and why."""
        return {b.serial: b.loss for b in self._boards.values() if b.loss is not None}

    @property
    def ended(self) -> bool:
        """Whether no more items will come."""
        return self._ended

    @property
    @abstractmethod
    def wants_more(self) -> bool:
        """Whether to add another item now. Not without a board that could evaluate it."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether every evaluation has had its outcome."""

    @property
    @abstractmethod
    def no_board_error(self) -> IcebusError | None:
        """Why nothing that is added now can be evaluated; None while it can."""

    def outstanding(self, serial: str) -> int:
        """Evaluations sent to the board and without an outcome."""
        return len(self._boards[serial].queue.outstanding)

    # --- items in -----------------------------------------------------------------------------

    @abstractmethod
    def add(self, item: T, serials: Sequence[str] | None = None) -> list[FailedEvaluation[T]]:
        """Add an item; what fails of it at once.

        Args:
            item: to be evaluated.
            serials: once on each of these boards, and on no other; None leaves it to the
                distribution.
        """

    @abstractmethod
    def reject(self, item: T, serials: Sequence[str] | None = None) -> list[Evaluation[T]]:
        """Count an item that is sent to no board: the evaluations that fail now."""

    def _fail_on_strangers(
        self, evaluation_id: str, item: T, serials: Sequence[str] | None
    ) -> list[FailedEvaluation[T]]:
        """What fails of an item because it was to go to boards that are not of this batch."""
        return [
            FailedEvaluation(
                Evaluation(serial, f"{evaluation_id}-{serial}", item),
                DeviceNotHeld(
                    f"device {serial} is none of those that this run uses: "
                    f"{', '.join(self._boards)}",
                    serial=serial,
                ),
            )
            for serial in serials or ()
            if serial not in self._boards
        ]

    def end(self) -> None:
        """No more items will come."""
        self._ended = True

    def cancel(self) -> None:
        """Nobody waits for outcomes any more: send nothing that was not sent."""
        self._ended = self._cancelled = True
        for board in self._boards.values():
            board.queue.paused = False
        self._drop_unsent()

    # --- calls out ----------------------------------------------------------------------------

    @abstractmethod
    def due(self) -> list[EvaluateCall[T]]:
        """What to send now."""

    def expects(self, call: EvaluateCall[T]) -> bool:
        """Whether the answer to that is still of interest: its board was not lost since."""
        return self._boards[call.serial].queue.expects(call)

    def accepted(self, serial: str) -> None:
        """The board took what it was sent last."""
        self._boards[serial].queue.accepted()

    @abstractmethod
    def refused(self, serial: str, room: int) -> None:
        """The board took nothing of what it was sent last.

        Nothing is sent there until an outcome comes from it or :meth:`resume` is called, and then
        no more than ``room`` at once.
        """

    def resume(self, serial: str) -> None:
        """Let a board that refused be tried again."""
        self._boards[serial].queue.paused = False

    def ask_again(self) -> None:
        """Outcomes may have been lost on their way: ask for all that is outstanding again."""
        for board in self._boards.values():
            board.queue.ask_again()

    # --- outcomes in --------------------------------------------------------------------------

    @abstractmethod
    def complete(
        self, serial: str, evaluation_id: str, took: float | None = None
    ) -> Evaluation[T] | None:
        """An outcome that stands has come.

        Args:
            serial: the board it came from.
            evaluation_id: whose outcome it is.
            took: seconds that the board took for it, where known.

        Returns:
            The evaluation when this is the first outcome, None when it is to be dropped.
        """

    @abstractmethod
    def fail(
        self, serial: str, evaluation_id: str, error: IcebusError
    ) -> list[FailedEvaluation[T]]:
        """An evaluation has failed on a board; what fails for good by that."""

    # --- boards that go and come --------------------------------------------------------------

    def lose(self, serial: str, error: IcebusError) -> list[FailedEvaluation[T]]:
        """The board is lost; what fails for good by that."""
        board = self._boards.get(serial)
        if board is None:
            return []
        if board.loss is not None:
            board.loss = board.loss if isinstance(board.loss, LASTING) else error
            return []
        owed = list(board.queue.outstanding.values())
        board.loss = error
        board.queue = BoardQueue(serial)
        return self._lost(board, owed, error)

    def join(self, serial: str) -> None:
        """A board that was lost is back, or one that takes another's place is ready."""
        board = self._boards[serial]
        board.queue.ready = True
        self._rejoin(board)

    def replace(self, serial: str, by: str, error: IcebusError) -> list[FailedEvaluation[T]]:
        """Another board takes the place of one; it has to :meth:`join` before it is sent anything.

        Args:
            serial: the board that is lost for good.
            by: the board in its place.
            error: why, unless it was lost before.

        Returns:
            What fails for good by that.
        """
        failed = self.lose(serial, error)
        self._boards[serial].retired = True
        if by not in self._boards:
            self._boards[by] = self._board(by, len(self._boards))
            self._boards[by].loss = error
        board = self._boards[by]
        if board.loss is not None:
            board.retired = False
            board.queue.ready = False
            self._rejoin(board)
        return failed

    @abstractmethod
    def give_up(self, error: IcebusError) -> list[FailedEvaluation[T]]:
        """No lost board will come back; what fails for good by that."""

    def _rejoin(self, board: B) -> None:
        if board.loss is not None:
            board.loss = None
            self._rejoined(board)

    # --- for either to fill in ----------------------------------------------------------------

    @abstractmethod
    def _board(self, serial: str, number: int) -> B:
        """A board that takes part."""

    @abstractmethod
    def _drop_unsent(self) -> None:
        """Forget what was not sent."""

    @abstractmethod
    def _lost(
        self, board: B, owed: Sequence[Evaluation[T]], error: IcebusError
    ) -> list[FailedEvaluation[T]]:
        """A board was lost with what it owed, in the order it was sent; what fails for good."""

    @abstractmethod
    def _rejoined(self, board: B) -> None:
        """A board takes part again, or for the first time."""
