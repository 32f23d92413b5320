"""A rack's boards on a made-up USB, through their bootloaders and back."""

from __future__ import annotations

from collections.abc import Mapping

from tests.usb.bus import UsbBus, application, bootloader
from tests.worker.racks import Rack

from icebus.schemas.boards.rack import read_board_file
from icebus.worker.hardware.board import ConnectedBoard, Snapshot
from icebus.worker.hardware.rack import RackDiscovery


class FollowedRack:
    """Shows on USB what a rack shows, at the same ports.

    Args:
        bus: where; nobody else may use it meanwhile.
        rack: which.
        product: what all applications call themselves.
    """

    def __init__(self, bus: UsbBus, rack: Rack, product: str = "pico-ice") -> None:
        self._bus = bus
        self._product = product
        self._directory = rack.directory
        self._shown: dict[str, ConnectedBoard] = {}
        self._ttys: dict[str, str] = {}
        self._discovery = RackDiscovery(rack.directory)
        self._discovery.start(self._follow)

    def stop(self) -> None:
        self._discovery.stop()

    def _follow(self, boards: Snapshot) -> None:
        there: Mapping[str, ConnectedBoard] = {board.path: board for board in boards}
        for port, board in list(self._shown.items()):
            if port not in there or there[port].session != board.session:
                self._bus.unplug(port)
                del self._shown[port]
        for port, board in there.items():
            if port not in self._shown:
                self._plug(board)
                self._shown[port] = board

    def _plug(self, board: ConnectedBoard) -> None:
        assert board.chip is not None
        if board.tty is None:
            file = read_board_file(self._directory / board.path)
            serial = "" if file is None else file.serial
            self._bus.plug(board.path, bootloader(board.chip, serial))
            return
        tty = self._ttys.setdefault(board.path, f"ttyACM{len(self._ttys)}")
        self._bus.device_file(tty, board.tty)
        self._bus.plug(board.path, application(str(board.serial), tty, self._product))
