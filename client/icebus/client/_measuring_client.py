"""Clients of kinds that measure: one for each kind with a class of its own, one for any other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic

from pydantic import ConfigDict
from typing_extensions import TypeVar

from icebus.client._client import BaseClient
from icebus.client._evaluating.boards import MeasuringBoards
from icebus.client._handlers import EventHandler, MeasuringHandler, event_names
from icebus.client._session import CONNECT_TIMEOUT
from icebus.schemas.measuring import Result
from icebus.schemas.operations import reservations

R = TypeVar("R", bound=Result)
B = TypeVar("B", bound=MeasuringBoards[Any], default=MeasuringBoards[R])


class MeasuringClient(BaseClient[B], Generic[R, B]):
    """A client for a kind that measures, made by naming the kind and the model of its results.

    >>> class PulseCountClient(MeasuringClient[PulseCountResult]):  # doctest: +SKIP
    ...     kind = "pulsecount"
    ...     result = PulseCountResult

    Attributes:
        result: what a measurement comes to.
        boards: what reservations are, where a kind has a class for them.
    """

    result: type[R]
    boards: type[MeasuringBoards[Any]] = MeasuringBoards
    events = event_names(MeasuringHandler)

    def _open(
        self, document: reservations.Reservation, *, keep_alive: bool, remaining: float | None
    ) -> B:
        opened: Any = self.boards(
            self._connection, document, self.result, keep_alive=keep_alive, remaining=remaining
        )
        boards: B = opened
        return boards


class GenericResult(Result):
    """A result of a kind without a class: what its worker tells are attributes, as JSON has them.

    ``model_extra`` has what the kind adds, by name.
    """

    model_config = ConfigDict(extra="allow")

    def __eq__(self, other: object) -> bool:
        """Whether both say the same, wherever their files came from."""
        return (
            super().__eq__(other)
            and isinstance(other, GenericResult)
            and self.model_extra == other.model_extra
        )

    __hash__ = None  # type: ignore[assignment] # annotations may hold anything


class GenericMeasuringClient(MeasuringClient[GenericResult]):
    """A client for any kind that measures, also one that this program has no class for.

    Args:
        kind: what boards are reserved for unless a call says otherwise; reservations of all kinds
            can be attached when it is empty.
        url: the broker; this and all else as for :class:`PulseCountClient`.
        farm: name of a farm that is stored, or of a user of this machine's farm, or the path of
            a profile.
        handlers: told of events.
        timeout: seconds to connect within.
    """

    result = GenericResult

    def __init__(
        self,
        kind: str = "",
        url: str | None = None,
        *,
        farm: str | Path | None = None,
        handlers: Sequence[EventHandler] = (),
        timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        self.kind = kind
        super().__init__(url, farm=farm, handlers=handlers, timeout=timeout)
