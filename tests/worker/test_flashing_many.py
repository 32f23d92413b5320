"""Many boards flashed at once, which look alike in their bootloaders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import RackBoard
from icebus.schemas.devices import DeviceState

if TYPE_CHECKING:
    from tests.worker.conftest import MakeRack, StartWorker
    from tests.worker.peers import Peers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

FIRMWARE = ("default", "pulse_count")


def test_given_16_rp2040_when_all_are_reflashed_at_once_then_each_gets_its_own_firmware(
    make_rack: MakeRack, start_worker: StartWorker, peers: Peers
) -> None:
    boards = [
        RackBoard(
            port=f"1-1.{1 + number // 4}.{1 + number % 4}",
            serial=f"MANY{number}",
            chip=Chip.RP2040,
            firmware=FIRMWARE[number % 2],
        )
        for number in range(16)
    ]
    start_worker(make_rack(*boards))
    for board in boards:
        peers.desire(board.serial, None)
        peers.wait_state(board.serial, DeviceState.READY, generation=1)

    marks = {board.serial: peers.mark(board.serial) for board in boards}
    for board in boards:
        peers.desire(board.serial, None, reflash=1)

    for board in boards:
        peers.wait_since(board.serial, marks[board.serial], DeviceState.FLASHING)
    for board in boards:
        report = peers.wait_state(board.serial, DeviceState.READY, generation=2)
        assert (report.firmware, report.port) == (board.firmware, board.port)
        told = peers.reports[board.serial][marks[board.serial] :]
        # It has no port while it changes modes.
        assert {each.port for each in told if each is not None} <= {board.port, ""}
