"""What stands for ``picotool`` here: it brings an image for real boards to one of a rack.

The worker's image says in its content which firmware it is; the board, which is one of a rack, is
given the rack's own image of that firmware. Boards are at the same ports in the rack and on the
made-up USB; ``ICEBUS_TEST_RACK`` names the rack's directory.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from icebus.schemas.boards import uf2
from icebus.schemas.boards.firmware import marker_image, read_marker
from icebus.schemas.boards.rack import BOOT, read_board_file
from icebus.schemas.deadline import Deadline
from icebus.worker.hardware.bootloaders.bootloader import StepLimit
from icebus.worker.hardware.bootloaders.drive import RackDrive

DEVICES = Path("/sys/bus/usb/devices")


def main() -> int:
    """``load -v -x FILE --bus B --address A`` or ``reboot --bus B --address A``."""
    what, *words = sys.argv[1:]
    bus, address = words[-3], words[-1]
    (port,) = (
        each.parent.name
        for each in DEVICES.glob("*/devnum")
        if each.read_text().strip() == address and each.parent.name.startswith(f"{bus}-")
    )
    folder = Path(os.environ["ICEBUS_TEST_RACK"]) / port
    board = read_board_file(folder)
    if board is None:
        print("No accessible RP-series devices in BOOTSEL mode were found")  # noqa: T201
        return 1
    drive, limit = RackDrive(folder / BOOT, board.chip), StepLimit(Deadline.after(10))
    if what == "reboot":
        drive.reboot(limit)
        return 0
    decoded = uf2.decode(Path(words[2]).read_bytes())
    marker = read_marker(decoded.payload)
    assert marker is not None
    assert decoded.family == board.chip.family
    drive.flash(marker_image(marker), limit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
