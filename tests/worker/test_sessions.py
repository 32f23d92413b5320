"""What the broker keeps for a worker that is away: nothing, for its own sake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.worker.conftest import StartWorker


@pytest.mark.parametrize("connection", ["_bus", "_requests"])
def test_given_a_worker_then_the_broker_is_to_keep_nothing_while_it_is_away(
    start_worker: StartWorker, connection: str
) -> None:
    """Mosquitto 2.0 was seen to crash of what it kept for workers with certificates."""
    bus = getattr(start_worker(), connection)
    assert bus._connect_properties.SessionExpiryInterval == 0
