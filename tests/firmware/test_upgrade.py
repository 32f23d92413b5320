"""A worker gives an emulated board newer firmware: the image of real boards, which then runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import serial
from tests.firmware.emulated_board import IMAGE, Host, skip_unless_built
from tests.firmware.test_in_rack import ONE
from tests.firmware.virtual_board import SerialPort
from tests.worker.peers import Peers
from tests.worker.racks import Rack
from tests.worker.workers import PEOPLE, make_worker

from icebus.broker.embedded import EmbeddedBroker
from icebus.schemas.boards.images import VARIABLE
from icebus.schemas.boards.rack import Mode, read_board_file
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceState
from icebus.worker.firmware import FirmwarePolicy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

NEWER = "0.9.9"
"""Of as many bytes as the version that the image has."""


def version() -> str:
    return (Path(__file__).parents[2] / "worker" / "firmware" / "VERSION").read_text().strip()


def test_given_newer_firmware_when_the_policy_is_to_upgrade_then_the_board_comes_back_with_it(
    tmp_path: Path, broker_class: type[EmbeddedBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_unless_built()
    assert len(version()) == len(NEWER)
    rack = Rack(tmp_path / "rack", [ONE])
    rack.wait()
    images = tmp_path / "images"
    images.mkdir()
    newer = IMAGE.read_bytes().replace(version().encode(), NEWER.encode())
    (images / "newer.uf2").write_bytes(newer)
    monkeypatch.setenv(VARIABLE, str(images))
    broker = broker_class(tmp_path / "broker", list(PEOPLE))
    broker.start(Deadline.after(30))
    peers = Peers(broker)
    before = read_board_file(rack.directory / ONE.port)
    worker = make_worker(broker, tmp_path / "journals", rack, policy=FirmwarePolicy.UPGRADE)
    try:
        peers.wait_state(ONE.serial, DeviceState.FLASHING)
        peers.wait_state(ONE.serial, DeviceState.READY)
    finally:
        worker.stop(Deadline.after(30))
        peers.close()
        broker.stop(Deadline.after(30))

    try:
        board = read_board_file(rack.directory / ONE.port)
        assert before is not None
        assert board is not None
        assert board.mode is Mode.APPLICATION
        assert board.session != before.session
        tty = str(rack.directory / ONE.port / "tty")
        with serial.Serial(tty, 115_200) as connection:
            assert Host(SerialPort(connection)).banner().version == NEWER
    finally:
        rack.stop()
