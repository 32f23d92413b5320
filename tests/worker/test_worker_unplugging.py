"""A whole worker whose boards are unplugged."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from icebus.schemas.boards.rack import RackBoard
from icebus.schemas.devices import DeviceState
from icebus.worker.states.core import via_bootloader

if TYPE_CHECKING:
    from tests.worker.conftest import MakeRack, StartWorker
    from tests.worker.peers import Peers

pytestmark = pytest.mark.timeout(60)

Circuits = dict[str, bytes]


def test_given_an_idle_board_when_unplugged_and_replugged_then_it_is_ready_again(
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_worker: StartWorker,
) -> None:
    rack = make_rack(make_board(1))
    start_worker(rack)
    peers.wait_state("BOARD1", DeviceState.READY)
    rack.unplug("BOARD1")
    peers.wait_state("BOARD1", DeviceState.ABSENT)
    elsewhere = RackBoard(port="1-1.7", serial="BOARD1", firmware="pulse_count")
    rack.plug(elsewhere)
    assert peers.wait_state("BOARD1", DeviceState.READY).port == "1-1.7"
    twin = RackBoard(port="1-1.8", serial="BOARD1", firmware="pulse_count")
    rack.plug(twin)
    assert "BOARD1" in peers.wait_state("BOARD1", DeviceState.BROKEN).reason
    rack.unplug("BOARD1")
    peers.wait_state("BOARD1", DeviceState.ABSENT)


@pytest.mark.parametrize("when", ["uploading", "measuring"])
def test_given_a_board_at_work_when_unplugged_then_all_fails_and_replugged_it_serves(
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_worker: StartWorker,
    circuits: Circuits,
    when: str,
) -> None:
    # Slow enough that it is surely still at it.
    options = {"bandwidth": 250_000} if when == "uploading" else {"window": 0.5}
    rack = make_rack(make_board(1), **options)
    start_worker(rack)
    peers.wait_state("BOARD1", DeviceState.READY)
    peers.reserve("BOARD1")
    evaluations = peers.evaluate("BOARD1", *[circuits["pulse_2khz"]] * 3)
    rack.unplug("BOARD1")
    for evaluation in evaluations:
        event, outcome = peers.wait_outcome(evaluation)
        assert (event, outcome["error"]["code"]) == ("failures", "device_unplugged")
    peers.wait_event("finished")
    peers.wait_state("BOARD1", DeviceState.ABSENT)
    rack.plug(make_board(1))
    peers.wait_state("BOARD1", DeviceState.SERVING)
    (again,) = peers.evaluate("BOARD1", circuits["pulse_2khz"], batch="again")
    assert peers.wait_outcome(again)[0] == "results"
    assert all(len(peers.outcomes(each)) >= 1 for each in evaluations)


def test_given_a_board_when_unplugged_while_flashed_then_it_is_absent_and_comes_back(
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(via_bootloader, "BOOTLOADER_DEADLINE", 0.5)
    monkeypatch.setattr(via_bootloader, "ACT_DEADLINE", 0.5)
    monkeypatch.setattr(via_bootloader, "RESTART_DEADLINE", 0.5)
    rack = make_rack(make_board(1, "default"), absence=0.2)
    start_worker(rack)
    peers.wait_state("BOARD1", DeviceState.READY)
    peers.desire("BOARD1", peers.hold)
    peers.wait_state("BOARD1", DeviceState.PREPARING)
    rack.unplug("BOARD1")
    peers.wait_state("BOARD1", DeviceState.ABSENT)
    rack.plug(make_board(1))
    peers.wait_state("BOARD1", DeviceState.SERVING)
