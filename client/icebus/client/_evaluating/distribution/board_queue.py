"""What one board of a batch is sent, one call at a time, and what it owes for that. Pure.

Who gives a board which item is decided elsewhere: :mod:`.each_board` gives each item to each board,
:mod:`.any_board` each to one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Evaluation(Generic[T]):
    """One item on one board: what has exactly one outcome.

    Attributes:
        serial: the board; empty when the item came to none.
        id: under which its outcome comes.
        item: what is evaluated.
    """

    serial: str
    id: str
    item: T


@dataclass(frozen=True)
class EvaluateCall(Generic[T]):
    """What to send to one board in one call.

    Attributes:
        serial: the board.
        evaluations: the evaluations; empty when there is only the end to tell.
        more: whether further calls of this batch may follow for this board.
        again: whether the board may have the evaluations already, and is asked for outcomes only.
    """

    serial: str
    evaluations: tuple[Evaluation[T], ...]
    more: bool
    again: bool = False


class BoardQueue(Generic[T]):
    """What one board was sent and has not answered for.

    Attributes:
        serial: the board.
        outstanding: evaluations sent and without an outcome, by id, in the order they were sent.
        paused: whether nothing is to be sent for now, because the board's queue was full.
        ready: whether the board can be sent anything yet; not while it is being prepared.
    """

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self.outstanding: dict[str, Evaluation[T]] = {}
        self.paused = False
        self.ready = True
        self._unanswered: EvaluateCall[T] | None = None
        self._ask_again = False
        self._started = False
        self._closed = False
        self._limit: int | None = None

    def busy(self, depth: int) -> bool:
        """Whether the board is to have no more for now; ``depth`` as for :meth:`next_call`."""
        return (
            self.paused
            or not self.ready
            or self._unanswered is not None
            or (len(self.outstanding) > depth // 2 and not self._ask_again)
        )

    def next_call(
        self, depth: int, take: Callable[[int], list[Evaluation[T]]], more: Callable[[], bool]
    ) -> EvaluateCall[T] | None:
        """What to send now. The board is told one thing at a time: answer before asking again.

        Args:
            depth: evaluations to have outstanding, at most; refilled when half of them are done,
                so that a call carries several.
            take: gives the next evaluations, at most so many.
            more: asked after that, whether further evaluations may come.
        """
        if self.paused or not self.ready or self._unanswered is not None:
            return None
        if self._ask_again and self.outstanding:
            self._ask_again = False
            self._unanswered = EvaluateCall(
                self.serial, tuple(self.outstanding.values()), more(), again=True
            )
            return self._unanswered
        if self._closed:
            return None
        evaluations: list[Evaluation[T]] = []
        if not self.busy(depth):
            room = depth - len(self.outstanding)
            evaluations = take(room if self._limit is None else min(room, self._limit))
        still = more()
        if not evaluations and (still or not self._started):
            return None
        self.outstanding.update((each.id, each) for each in evaluations)
        self._unanswered = EvaluateCall(self.serial, tuple(evaluations), still)
        self._started = True
        return self._unanswered

    def expects(self, call: EvaluateCall[T]) -> bool:
        """Whether that is what the board was sent last, and it has not answered."""
        return self._unanswered is call

    def accepted(self) -> None:
        """The board took what it was sent last."""
        if self._unanswered is not None:
            self._closed = not self._unanswered.more
            self._unanswered = None
            self._limit = None

    def refused(self, room: int) -> list[Evaluation[T]]:
        """The board took nothing of what it was sent last.

        Nothing is sent while ``paused``, and then no more than ``room`` at once.

        Returns:
            The evaluations that are not with the board now. Those it was only asked for again may
            be.
        """
        if self._unanswered is None:
            return []
        asked, self._unanswered = self._unanswered, None
        self.paused = True
        self._limit = max(1, room)
        if asked.again:
            self._ask_again = True
            return []
        return [
            each for each in asked.evaluations if self.outstanding.pop(each.id, None) is not None
        ]

    def ask_again(self) -> None:
        """Outcomes may have been lost on their way: ask for all that is outstanding again.

        Workers repeat the outcomes they have, and measure nothing twice.
        """
        self._ask_again = bool(self.outstanding)

    def complete(self, evaluation_id: str) -> Evaluation[T] | None:
        """An outcome has come: its evaluation if the board owed it."""
        self.paused = False
        return self.outstanding.pop(evaluation_id, None)
