"""What a run needs of whoever decides which board evaluates which item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from icebus.client.conversation import Send, Slot
from icebus.schemas.errors import IcebusError

T = TypeVar("T")


@dataclass(frozen=True)
class Failed(Generic[T]):
    """An evaluation that will have no result, and why."""

    slot: Slot[T]
    error: IcebusError


class Account(Protocol[T]):
    """The account of one batch: what goes where, and what has come of it.

    It does no I/O, knows no clock and needs no lock; its owner brings those.
    """

    @property
    def batch(self) -> str:
        """The batch's id, which evaluations' ids begin with."""

    @property
    def copies(self) -> int:
        """The boards that each item goes to."""

    @property
    def forgiving(self) -> bool:
        """Whether what a lost board owes may have a result all the same, from another."""

    @property
    def serials(self) -> Sequence[str]:
        """All its boards."""

    @property
    def losses(self) -> Mapping[str, IcebusError]:
        """The boards that are lost, and why."""

    @property
    def ended(self) -> bool:
        """Whether no more items will come."""

    @property
    def hungry(self) -> bool:
        """Whether to add another item now."""

    @property
    def done(self) -> bool:
        """Whether every evaluation has had its outcome."""

    @property
    def forsaken(self) -> IcebusError | None:
        """Why nothing that is added now can be evaluated; None while it can."""

    def add(self, item: T) -> list[Failed[T]]:
        """Add an item; what fails of it at once."""

    def reject(self, item: T) -> list[Slot[T]]:
        """Count an item that is sent to no board: the slots that fail now."""

    def end(self) -> None:
        """No more items will come."""

    def cancel(self) -> None:
        """Nobody waits for outcomes any more: send nothing that was not sent."""

    def due(self) -> list[Send[T]]:
        """What to send now."""

    def awaits(self, send: Send[T]) -> bool:
        """Whether the answer to that is still of interest: its board was not lost since."""

    def accepted(self, serial: str) -> None:
        """The board took what it was sent last."""

    def refused(self, serial: str, room: int) -> None:
        """The board took nothing of what it was sent last.

        Nothing is sent there until an outcome comes from it or :meth:`nudge` is called, and then
        no more than ``room`` at once.
        """

    def nudge(self, serial: str) -> None:
        """Let a board that refused be tried again."""

    def doubt(self) -> None:
        """Outcomes may have been lost on their way: ask for all that is outstanding again."""

    def settle(self, serial: str, evaluation: str, took: float | None = None) -> Slot[T] | None:
        """An outcome that stands has come.

        Args:
            serial: the board it came from.
            evaluation: whose outcome it is.
            took: seconds that the board took for it, where known.

        Returns:
            The slot when this is the first outcome, None when it is to be dropped.
        """

    def fail(self, serial: str, evaluation: str, error: IcebusError) -> list[Failed[T]]:
        """An evaluation has failed on a board; what fails for good by that."""

    def lose(self, serial: str, error: IcebusError) -> list[Failed[T]]:
        """The board is lost; what fails for good by that."""

    def join(self, serial: str) -> None:
        """A board that was lost is back, or one that takes another's place is ready."""

    def replace(self, serial: str, by: str, error: IcebusError) -> list[Failed[T]]:
        """Another board takes the place of one; it has to :meth:`join` before it is sent anything.

        Args:
            serial: the board that is lost for good.
            by: the board in its place.
            error: why, unless it was lost before.

        Returns:
            What fails for good by that.
        """

    def give_up(self, error: IcebusError) -> list[Failed[T]]:
        """No lost board will come back; what fails for good by that."""

    def outstanding(self, serial: str) -> int:
        """Evaluations sent to the board and without an outcome."""
