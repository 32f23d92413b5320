"""Reserving the boards of a test, and saying who has them when it can't be done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import pytest

from icebus.client import MeasuringBoards, MeasuringClient
from icebus.client._reservation.document import held
from icebus.client.pytest_plugin._request import BoardRequest
from icebus.schemas.errors import DeviceUnavailable, IcebusError, NotEnoughDevices
from icebus.schemas.operations.reservations import Reservation

NOT_TO_BE_HAD = (NotEnoughDevices, DeviceUnavailable)

NAMED = 5
"""Reservations, and boards of each, that a message names; the rest is counted."""


def reserve(
    client: MeasuringClient[Any, Any], request: BoardRequest, wait: float
) -> MeasuringBoards[Any]:
    """Boards for a test, which fails where there are none.

    Args:
        client: that reserves them.
        request: which ones.
        wait: seconds to stand in the queue unless the request says.
    """
    try:
        return _reserve(client, request, wait if request.wait is None else request.wait)
    except IcebusError as error:
        told = f"no boards for this test: [{error.code}] {error.message}"
        if isinstance(error, NOT_TO_BE_HAD):
            told += _who_holds_some(client)
    pytest.fail(told, pytrace=False)


def _reserve(
    client: MeasuringClient[Any, Any], request: BoardRequest, wait: float
) -> MeasuringBoards[Any]:
    ask: Callable[..., MeasuringBoards[Any]] = partial(
        client.reserve,
        request.count,
        serials=request.serials,
        selector=request.selector,
        kind=request.kind,
        args=request.args,
    )
    try:
        return ask()
    except NOT_TO_BE_HAD as error:
        # Nobody needs to wait for what waiting does not help, such as labels that no board has.
        if not wait or error.details.get("temporary") is not True:
            raise
    return ask(wait=wait)


def _who_holds_some(client: MeasuringClient[Any, Any]) -> str:
    try:
        found = client.survey()
    except IcebusError:
        return ""  # what was asked for failed for a reason of its own, which is told
    return holders(found.reservations.values())


def holders(reservations: Iterable[Reservation]) -> str:
    """Who holds boards, a line each; empty when nobody does."""
    holding = [each for each in reservations if each.queue is None and held(each)]
    lines = [
        f"{each.user} holds {_some([device.serial for device in held(each)])} for {each.kind} "
        f"until {each.until.astimezone():%H:%M:%S} (reservation {each.id})"
        for each in sorted(holding, key=lambda each: (each.until, each.id))
    ]
    if len(lines) > NAMED:
        lines[NAMED:] = [f"and {len(lines) - NAMED} more; `icebus reservations` lists them all"]
    return "".join(f"\n  {line}" for line in lines)


def _some(serials: Sequence[str]) -> str:
    more = len(serials) - NAMED
    return ", ".join(serials[:NAMED]) + (f" and {more} more" if more > 0 else "")
