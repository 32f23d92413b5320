"""What is said to one board of a batch, one call at a time, and what the board owes for it. Pure.

Who gives a board which item is decided elsewhere: :mod:`icebus.client._evaluating.each_board` gives
each item to each board, :mod:`icebus.client._evaluating.any_board` each to one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Slot(Generic[T]):
    """One item on one board.

    Attributes:
        serial: the board; empty when the item came to none.
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
        more: whether further calls of this batch may follow for this board.
        again: whether the board may have the evaluations already, and is asked for outcomes only.
    """

    serial: str
    slots: tuple[Slot[T], ...]
    more: bool
    again: bool = False


class Conversation(Generic[T]):
    """The state of what is said to one board.

    Attributes:
        serial: the board.
        outstanding: evaluations sent and without an outcome, by id, in the order they were sent.
        held: whether nothing is to be sent for now, because the board's queue was full.
        ready: whether the board can be sent anything yet; not while it is being prepared.
    """

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self.outstanding: dict[str, Slot[T]] = {}
        self.held = False
        self.ready = True
        self._asking: Send[T] | None = None
        self._unsure = False
        self._started = False
        self._closed = False
        self._limit: int | None = None

    def busy(self, depth: int) -> bool:
        """Whether the board is to have no more for now; ``depth`` as for :meth:`ask`."""
        return (
            self.held
            or not self.ready
            or self._asking is not None
            or (len(self.outstanding) > depth // 2 and not self._unsure)
        )

    def ask(
        self, depth: int, take: Callable[[int], list[Slot[T]]], more: Callable[[], bool]
    ) -> Send[T] | None:
        """What to send now. The board is told one thing at a time: answer before asking again.

        Args:
            depth: evaluations to have outstanding, at most; refilled when half of them are done,
                so that a call carries several.
            take: gives the next slots, at most so many.
            more: asked after that, whether further slots may come.
        """
        if self.held or not self.ready or self._asking is not None:
            return None
        if self._unsure and self.outstanding:
            self._unsure = False
            self._asking = Send(self.serial, tuple(self.outstanding.values()), more(), again=True)
            return self._asking
        if self._closed:
            return None
        slots: list[Slot[T]] = []
        if not self.busy(depth):
            room = depth - len(self.outstanding)
            slots = take(room if self._limit is None else min(room, self._limit))
        still = more()
        if not slots and (still or not self._started):
            return None
        self.outstanding.update((slot.evaluation, slot) for slot in slots)
        self._asking = Send(self.serial, tuple(slots), still)
        self._started = True
        return self._asking

    def awaits(self, send: Send[T]) -> bool:
        """Whether that is what the board was sent last, and it has not answered."""
        return self._asking is send

    def accepted(self) -> None:
        """The board took what it was sent last."""
        if self._asking is not None:
            self._closed = not self._asking.more
            self._asking = None
            self._limit = None

    def refused(self, room: int) -> list[Slot[T]]:
        """The board took nothing of what it was sent last.

        Nothing is sent while ``held``, and then no more than ``room`` at once.

        Returns:
            The slots that are not with the board now. What it was only asked about again may be.
        """
        if self._asking is None:
            return []
        asked, self._asking = self._asking, None
        self.held = True
        self._limit = max(1, room)
        if asked.again:
            self._unsure = True
            return []
        return [s for s in asked.slots if self.outstanding.pop(s.evaluation, None) is not None]

    def doubt(self) -> None:
        """Outcomes may have been lost on their way: ask for all that is outstanding again.

        Workers repeat the outcomes they have, and measure nothing twice.
        """
        self._unsure = bool(self.outstanding)

    def settle(self, evaluation: str) -> Slot[T] | None:
        """An outcome has come: its slot if the board owed it."""
        self.held = False
        return self.outstanding.pop(evaluation, None)
