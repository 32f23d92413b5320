"""What markers ask for. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from icebus.schemas.errors import InvalidRequest
from icebus.schemas.selectors import is_label
from icebus.schemas.wording import counted

if TYPE_CHECKING:
    import pytest

    from icebus.client import MeasuringClient


@dataclass(frozen=True)
class BoardRequest:
    """The boards that a test wants, as its markers say; the names are those of the marker.

    Attributes:
        count: how many; 1 without ``serials``.
        kind: what for; that of ``client``, else pulse counting, when None.
        labels: that they must have, or a selector.
        serials: which ones.
        args: what the kind asks for.
        wait: seconds to stand in the queue; as the option says when None.
        client: the class of clients of a kind of one's own.
    """

    count: int | None = None
    kind: str | None = None
    labels: Mapping[str, object] | str = field(default_factory=dict)
    serials: Sequence[str] | None = None
    args: Mapping[str, Any] | None = None
    wait: float | None = None
    client: type[MeasuringClient[Any, Any]] | None = None

    @property
    def selector(self) -> str | None:
        """The labels as ``reserve`` takes them.

        Raises:
            InvalidRequest: a board can have no such label.
        """
        if isinstance(self.labels, str):
            return self.labels or None
        said = {str(name): _value(value) for name, value in self.labels.items()}
        for name, value in said.items():
            if not is_label(name, value):
                raise InvalidRequest(
                    f"no board can have the label {name}={value!r}; for more than `name: value`, "
                    "give a selector, such as labels='chip=rp2350,rack!=b'"
                )
        return ",".join(f"{name}={value}" for name, value in said.items()) or None

    @property
    def client_class(self) -> Callable[..., MeasuringClient[Any, Any]]:
        """What makes a client for it from ``url`` or ``farm``."""
        from icebus.client import GenericMeasuringClient, PulseCountClient, VarianceClient

        if self.client is not None:
            return self.client
        known: dict[str | None, Callable[..., MeasuringClient[Any, Any]]] = {
            None: PulseCountClient,
            PulseCountClient.kind: PulseCountClient,
            VarianceClient.kind: VarianceClient,
        }
        return known.get(self.kind) or partial(GenericMeasuringClient, str(self.kind))

    def __str__(self) -> str:
        what = ", ".join(self.serials or ()) or counted(self.count or 1, "board")
        selector = self.selector
        return f"{what} with {selector}" if selector else what


def read_markers(markers: Iterable[pytest.Mark]) -> BoardRequest:
    """What a test's markers ask for together: of two that say the same thing, the first counts.

    Raises:
        InvalidRequest: one asks for something that there is not, or in no such way.
    """
    known = [each.name for each in fields(BoardRequest)]
    said: dict[str, Any] = {}
    for marker in markers:
        if marker.args:
            raise InvalidRequest(
                f"@pytest.mark.icebus takes names, as in icebus(count=2), not {marker.args[0]!r}"
            )
        for name, value in marker.kwargs.items():
            if name not in known:
                raise InvalidRequest(
                    f"@pytest.mark.icebus has no {name!r}; it has {', '.join(known)}"
                )
            said.setdefault(name, value)
    request = BoardRequest(**said)
    if not isinstance(request.labels, (str, Mapping)):
        raise InvalidRequest(
            f"labels of @pytest.mark.icebus are a dict or a selector, not {request.labels!r}"
        )
    wait = request.wait
    if wait is not None and not (isinstance(wait, (int, float)) and 0 <= wait < math.inf):
        raise InvalidRequest(f"wait of @pytest.mark.icebus is a number of seconds, not {wait!r}")
    if request.client is not None and not isinstance(request.client, type):
        raise InvalidRequest(
            f"client of @pytest.mark.icebus is a class of clients, not {request.client!r}"
        )
    return request


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
