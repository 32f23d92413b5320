"""Boards that are real as far as a worker can tell, put together of what stands for their parts.

An application is that of a rack's board, on its serial port. A bootloader is a ROM's, on USB under
pyusb; what it has in flash when it restarts is what the rack's board starts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

from tests.worker.fake_bootloader import FakeBootloader, content
from tests.worker.racks import Rack
from tests.worker.usb_backend import Backend, Plugged

from icebus.schemas.boards import uf2
from icebus.schemas.boards.firmware import Chip, FirmwareMarker, marker_bytes
from icebus.worker.hardware.board import ConnectedBoard, Snapshot
from icebus.worker.hardware.rack import RackDiscovery

FLASH = 32 << 10


def write_image(folder: Path, firmware: str, version: str, chip: Chip) -> bytes:
    """An image that the ROM of ``chip`` starts and that says what it is; gives its content."""
    body = bytearray(content(chip, 9000))
    marker = marker_bytes(FirmwareMarker(name=firmware, version=version, chip=chip))
    body[4096 : 4096 + len(marker)] = marker
    folder.mkdir(exist_ok=True)
    image = uf2.encode(bytes(body), chip.family, uf2.FLASH_ADDRESS)
    (folder / f"{firmware}-{chip}.uf2").write_bytes(image)
    return uf2.decode(image).payload


class UsbBoards:
    """A discovery of a rack's boards that shows them as real ones.

    Args:
        rack: whose boards they are.
        backend: the USB that pyusb sees.

    Attributes:
        roms: of boards by their port, once they have been in their bootloaders.
        on_rom: called with each new one.
    """

    def __init__(self, rack: Rack, backend: Backend) -> None:
        self.roms: dict[str, FakeBootloader] = {}
        self.on_rom: Callable[[str, FakeBootloader], None] = lambda _path, _rom: None
        self._rack = rack
        self._discovery = RackDiscovery(rack.directory)
        self._backend = backend
        self._lock = threading.Lock()
        self._boards: Snapshot = []
        self._restarts: dict[str, int] = {}
        self._sessions: dict[str, str] = {}
        self._starting: dict[str, bytes] = {}
        self._tell: Callable[[Snapshot], None] = lambda _boards: None

    def start(self, on_change: Callable[[Snapshot], None]) -> None:
        """Tell of the rack's boards, each as a real one."""
        self._tell = on_change
        self._discovery.start(self._on_rack)

    def stop(self) -> None:
        """No more of it."""
        self._discovery.stop()

    def _on_rack(self, boards: Snapshot) -> None:
        with self._lock:
            self._boards = boards
            self._show()

    def _show(self, hidden: str = "") -> None:
        real = [self._real(board) for board in self._boards if board.path != hidden]
        self._tell([board for board in real if board is not None])

    def _real(self, board: ConnectedBoard) -> ConnectedBoard | None:
        session = board.session
        if not board.in_bootloader:
            self._starting.pop(board.path, None)
        elif board.path in self._starting:  # a real one would be on its way to its application
            self._give(board, self._starting[board.path])
            return None
        else:
            session += f"-{self._restarts.get(board.path, 0)}"
            if self._sessions.get(board.path) != session:
                self._sessions[board.path] = session
                self._enumerate(board)
        return dataclasses.replace(board, virtual=False, drive=None, source="usb", session=session)

    def _enumerate(self, board: ConnectedBoard) -> None:
        """Have its ROM on the bus, with what was in flash before."""
        assert board.chip is not None
        before = self.roms.get(board.path)
        flash = bytearray(b"\xff" * FLASH) if before is None else before.flash
        rom = FakeBootloader(board.chip, flash)
        rom.on_restart = lambda: self._restart(board, rom)
        self.roms[board.path] = rom
        self._backend.replace(Plugged(board.path, rom))
        self.on_rom(board.path, rom)

    def _restart(self, board: ConnectedBoard, rom: FakeBootloader) -> None:
        """What it has in flash starts, if the ROM finds it whole; otherwise the ROM itself does."""
        with self._lock:
            if rom.power_cycle() == "application":
                image = uf2.encode(bytes(rom.flash), rom.chip.rack_family, uf2.FLASH_ADDRESS)
                self._starting[board.path] = image
                self._rack.change(lambda each: {"fault": None} if each.port == board.path else {})
                self._give(board, image)
            else:
                self._restarts[board.path] = self._restarts.get(board.path, 0) + 1
                self._show(hidden=board.path)
            self._show()

    @staticmethod
    def _give(board: ConnectedBoard, image: bytes) -> None:
        assert board.drive is not None
        with contextlib.suppress(FileNotFoundError):  # it has left since
            (board.drive / "IMAGE.UF2").write_bytes(image)
