"""Ways to bootloaders: which is taken, and what each makes of what it meets."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from icebus.schemas.boards import picoboot, uf2
from icebus.schemas.boards.firmware import Chip, FirmwareMarker, marker_bytes, marker_image
from icebus.schemas.boards.rack import DRIVE_FILES, PICOBOOT, Mode
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import FirmwareInvalid
from icebus.worker.hardware import flashing
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.hardware.bootloaders import choose, drive, libusb, picotool
from icebus.worker.hardware.bootloaders.bootloader import (
    Bootloader,
    BootloaderFailed,
    BootloaderUnreachable,
    StepLimit,
)
from icebus.worker.hardware.bootloaders.choose import AnyWay
from icebus.worker.hardware.bootloaders.drive import IMAGE_NAME, MountedDrive, mounted_drive
from icebus.worker.hardware.bootloaders.picoboot import Picoboot
from icebus.worker.hardware.bootloaders.picotool import Picotool

IMAGE = uf2.encode(b"firmware" * 100, uf2.RP2040, uf2.FLASH_ADDRESS)


def board(
    chip: Chip | None = Chip.RP2040, drive: Path | None = None, virtual: bool = False
) -> ConnectedBoard:
    return ConnectedBoard("1-1.2", "s1", chip, None, None, drive, virtual, Mode.BOOTLOADER)


def limit(seconds: float = 30.0) -> StepLimit:
    return StepLimit(Deadline.after(seconds))


def fake_drive(at: Path) -> Path:
    at.mkdir(parents=True)
    for name in DRIVE_FILES:
        (at / name).touch()
    return at


# --- which way ------------------------------------------------------------------------------------


class Way:
    """A way that does what a test wants."""

    def __init__(self, tried: list[Way], problem: Exception | None = None) -> None:
        self._tried = tried
        self._problem = problem

    def flash(self, image: bytes, limit: StepLimit) -> None:
        self.reboot(limit)

    def reboot(self, limit: StepLimit) -> None:
        self._tried.append(self)
        if self._problem is not None:
            raise self._problem


def any_way(*problems: Exception | None) -> tuple[AnyWay, list[Way], list[Way]]:
    tried: list[Way] = []
    all_ways = [Way(tried, problem) for problem in problems]

    def found(_board: ConnectedBoard) -> Iterator[Bootloader]:
        yield from all_ways

    return AnyWay(board(), found), all_ways, tried


def test_given_ways_that_lead_nowhere_then_the_next_is_tried_and_no_more() -> None:
    way, known, tried = any_way(BootloaderUnreachable("no right"), None, None)
    way.flash(IMAGE, limit())
    assert tried == known[:2]


def test_given_a_bootloader_that_refuses_then_no_other_way_is_tried() -> None:
    way, known, tried = any_way(BootloaderFailed("refused"), None)
    with pytest.raises(BootloaderFailed, match="refused"):
        way.reboot(limit())
    assert tried == known[:1]


def test_given_no_way_at_all_then_what_to_install_is_said() -> None:
    way, _, _ = any_way()
    with pytest.raises(BootloaderUnreachable, match=r"libusb-1.0-0.*doctor"):
        way.flash(IMAGE, limit())


def test_given_only_ways_that_lead_nowhere_then_each_says_why() -> None:
    way, _, _ = any_way(BootloaderUnreachable("no right"), BootloaderUnreachable("no drive"))
    with pytest.raises(BootloaderUnreachable, match="no right; no drive"):
        way.flash(IMAGE, limit())


def test_given_all_programs_and_a_mount_then_picoboot_goes_before_picotool_before_the_drive(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(libusb, "is_available", lambda: True)
    monkeypatch.setattr(picotool, "find", lambda: "/usr/bin/picotool")
    found = list(choose.ways(board(drive=tmp_path)))
    assert [type(way) for way in found] == [Picoboot, Picotool, MountedDrive]


def test_given_nothing_installed_and_nothing_mounted_then_there_is_no_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(libusb, "is_available", lambda: False)
    monkeypatch.setattr(picotool, "find", lambda: None)
    monkeypatch.setattr(choose, "mounted_drive", lambda _path: None)
    assert list(choose.ways(board())) == []


def test_given_a_board_of_the_rack_then_its_folder_is_the_only_way(tmp_path: Path) -> None:
    (way,) = choose.ways(board(drive=tmp_path, virtual=True))
    way.flash(IMAGE, limit())
    assert (tmp_path / IMAGE_NAME).read_bytes() == IMAGE
    way.reboot(limit())
    assert picoboot.is_reboot((tmp_path / PICOBOOT).read_bytes(), Chip.RP2040)


def test_given_a_board_of_the_rack_that_has_left_then_that_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        flashing.flash(IMAGE, board(virtual=True), limit())
    with pytest.raises(FileNotFoundError):
        flashing.reboot(board(drive=Path("/nowhere"), virtual=True), limit())


def test_given_a_board_of_an_unknown_chip_then_no_way_leads_to_it() -> None:
    with pytest.raises(BootloaderUnreachable, match="not known"):
        flashing.flash(IMAGE, board(chip=None), limit())


# --- what is checked before anything is erased ----------------------------------------------------


def encoded(content: bytes, chip: Chip = Chip.RP2040, address: int = uf2.FLASH_ADDRESS) -> bytes:
    return uf2.encode(content, chip.family, address)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"no firmware", "not a number of blocks|Not a UF2"),
        (IMAGE[:-512], "calls itself"),
        (encoded(b"x", Chip.RP2350), "family 0xE48BFF59.*takes 0xE48BFF56"),
        (marker_image(FirmwareMarker(name="default", chip=Chip.RP2040)), "family 0x1CEB2040"),
        (encoded(b"x", address=0x2000_0000), "0x20000000"),
        (encoded(b"x", address=uf2.FLASH_ADDRESS + 4096), "boards start what is at"),
        (encoded(b"x" * (uf2.FLASH_SIZE + 1)), "4 MiB"),
        (
            encoded(marker_bytes(FirmwareMarker(name="icebus", chip=Chip.RP2350))),
            "icebus for rp2350",
        ),
    ],
)
def test_given_an_image_that_is_not_for_the_board_then_it_is_refused(
    image: bytes, message: str
) -> None:
    with pytest.raises(FirmwareInvalid, match=message):
        flashing.check_image(image, board())


@pytest.mark.parametrize("chip", list(Chip))
def test_given_an_image_for_the_board_then_it_is_taken(chip: Chip) -> None:
    assert flashing.check_image(encoded(b"x" * uf2.FLASH_SIZE, chip), board(chip)) == ""
    marker = FirmwareMarker(name="icebus", version="0.2.0", chip=chip)
    assert flashing.check_image(encoded(marker_bytes(marker), chip), board(chip)) == "0.2.0"
    virtual = board(chip, virtual=True)
    assert flashing.check_image(marker_image(marker), virtual) == "", "it has no other to say"


# --- a mounted drive ------------------------------------------------------------------------------


def test_given_a_mounted_drive_then_the_image_is_copied_to_it(tmp_path: Path) -> None:
    place = fake_drive(tmp_path / "RPI-RP2")
    MountedDrive(place).flash(IMAGE, limit())
    assert (place / IMAGE_NAME).read_bytes() == IMAGE
    with pytest.raises(BootloaderUnreachable, match="can't restart"):
        MountedDrive(place).reboot(limit())


def test_given_a_folder_that_is_no_bootloader_s_then_nothing_is_written_to_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(BootloaderUnreachable, match="not a bootloader's drive"):
        MountedDrive(tmp_path).flash(IMAGE, limit())
    assert list(tmp_path.iterdir()) == []


def test_given_a_copy_that_nobody_waits_for_then_it_ends(tmp_path: Path) -> None:
    given_up = limit()
    given_up.abandoned.set()
    with pytest.raises(BootloaderFailed, match="given up"):
        drive.copy(IMAGE, fake_drive(tmp_path / "d"), given_up)


def test_given_sysfs_and_mounts_then_the_drive_of_that_port_is_found(tmp_path: Path) -> None:
    devices, mounts = tmp_path / "devices", tmp_path / "mounts"
    for port, disk in (("1-1.2", "sdb"), ("1-1.3", "sdc")):
        (devices / port / f"{port}:1.0/host0/target0:0:0/0:0:0:0/block/{disk}").mkdir(parents=True)
    mounts.write_text(
        "/dev/sda1 / ext4 rw 0 0\n"
        "/dev/sdc1 /media/ann/RPI-RP21 vfat rw 0 0\n"
        "/dev/sdb1 /media/my\\040boards/RPI-RP2 vfat rw 0 0\n"
    )
    assert mounted_drive("1-1.2", devices, mounts) == Path("/media/my boards/RPI-RP2")
    assert mounted_drive("1-1.3", devices, mounts) == Path("/media/ann/RPI-RP21")
    assert mounted_drive("1-1.4", devices, mounts) is None
    assert mounted_drive("1-1.2", devices, tmp_path / "none") is None
    mounts.write_text("/dev/sda1 / ext4 rw 0 0\n")
    assert mounted_drive("1-1.2", devices, mounts) is None


# --- picotool -------------------------------------------------------------------------------------

MakeProgram = Callable[[str], str]


@pytest.fixture
def program(tmp_path: Path) -> MakeProgram:
    """Makes a program that is run in place of picotool."""

    def make(script: str) -> str:
        path = tmp_path / "picotool"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """Where USB devices are shown, with a board at 1-1.2 that is device 17 of bus 1."""
    folder = tmp_path / "devices" / "1-1.2"
    folder.mkdir(parents=True)
    (folder / "busnum").write_text("1\n")
    (folder / "devnum").write_text("17\n")
    return folder.parent


def test_given_picotool_when_flashing_then_it_loads_verifies_and_starts_at_that_address(
    program: MakeProgram, devices: Path, tmp_path: Path
) -> None:
    path = program(f'echo "$@" > {tmp_path}/words; test "$1" != load || cp "$4" {tmp_path}/taken')
    Picotool("1-1.2", path, devices).flash(IMAGE, limit())
    words = (tmp_path / "words").read_text().split()
    assert words[:3] == ["load", "-v", "-x"]
    assert words[4:] == ["--bus", "1", "--address", "17"]
    assert (tmp_path / "taken").read_bytes() == IMAGE
    assert not Path(words[3]).exists()
    Picotool("1-1.2", path, devices).reboot(limit())
    assert (tmp_path / "words").read_text().split()[0] == "reboot"


def test_given_picotool_that_fails_then_its_own_words_are_told(
    program: MakeProgram, devices: Path
) -> None:
    path = program("echo 'ERROR: verification failed at 10001000'; exit 3")
    with pytest.raises(BootloaderFailed, match="verification failed at 10001000") as told:
        Picotool("1-1.2", path, devices).flash(IMAGE, limit())
    assert not isinstance(told.value, BootloaderUnreachable)
    path = program("echo 'No accessible RP-series devices in BOOTSEL mode were found'; exit 249")
    with pytest.raises(BootloaderUnreachable, match="No accessible"):
        Picotool("1-1.2", path, devices).flash(IMAGE, limit())


def test_given_no_picotool_or_no_such_device_then_that_way_leads_nowhere(
    program: MakeProgram, devices: Path
) -> None:
    with pytest.raises(BootloaderUnreachable, match="can't be run"):
        Picotool("1-1.2", str(devices / "nothing"), devices).reboot(limit())
    with pytest.raises(BootloaderUnreachable, match=r"port 1-1\.3"):
        Picotool("1-1.3", program("exit 0"), devices).reboot(limit())


def test_given_picotool_that_hangs_when_nobody_waits_any_more_then_it_is_ended(
    program: MakeProgram, devices: Path, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    path = program(f"exec 3>{started}; exec sleep 600")
    given_up = limit()

    def give_up() -> None:
        with started.open():  # it has begun
            given_up.abandoned.set()

    helper = threading.Thread(target=give_up)
    helper.start()
    with pytest.raises(BootloaderFailed, match="given up"):
        Picotool("1-1.2", path, devices).flash(IMAGE, given_up)
    helper.join(30)
    assert not helper.is_alive()


def test_given_a_machine_then_picotool_is_looked_for_on_its_path() -> None:
    assert picotool.find() == shutil.which("picotool")
