"""Flashing through PICOBOOT, over a bootloader that does as the ROMs do."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.worker.fake_bootloader import SECTOR, FakeBootloader, content

from icebus.schemas.boards import uf2
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.picoboot import Access, Code
from icebus.schemas.deadline import Deadline
from icebus.worker.hardware.bootloaders.bootloader import BootloaderFailed, StepLimit
from icebus.worker.hardware.bootloaders.picoboot import Picoboot

CHIPS = list(Chip)
OLD, NEW = 0x11, 0x77
SIZE = 3 * SECTOR + 512


def limit() -> StepLimit:
    return StepLimit(Deadline.after(30))


def image(chip: Chip, size: int = SIZE, fill: int = NEW) -> bytes:
    return uf2.encode(content(chip, size, fill), chip.family, uf2.FLASH_ADDRESS)


def board(chip: Chip, size: int = 5 * SECTOR) -> FakeBootloader:
    """A board that runs an older image, which fills its flash."""
    return FakeBootloader(chip, bytearray(content(chip, size, OLD)))


def flash(fake: FakeBootloader, what: bytes | None = None) -> None:
    Picoboot(fake.connect, fake.chip).flash(what or image(fake.chip), limit())


@pytest.mark.parametrize("chip", CHIPS)
def test_given_a_board_when_flashed_then_its_flash_has_the_image_and_it_starts(chip: Chip) -> None:
    fake = board(chip)

    flash(fake)

    assert bytes(fake.flash[:SIZE]) == content(chip, SIZE, NEW)
    # The image ends within a sector, the rest of which is erased; what is beyond is left alone.
    assert bytes(fake.flash[SIZE : 4 * SECTOR]) == b"\xff" * (4 * SECTOR - SIZE)
    assert bytes(fake.flash[4 * SECTOR :]) == content(chip, 5 * SECTOR, OLD)[4 * SECTOR :]
    assert fake.restarted
    assert fake.power_cycle() == "application"
    assert (fake.opened, fake.closed) == (1, 1)


@pytest.mark.parametrize("chip", CHIPS)
def test_given_a_flashing_then_nobody_else_may_write_and_executing_has_ended_before_the_first_erase(
    chip: Chip,
) -> None:
    fake = board(chip)
    flash(fake)
    assert fake.commands[:3] == ["EXCLUSIVE_ACCESS", "EXIT_XIP", "FLASH_ERASE"]
    assert fake.exclusive == Access.EXCLUSIVE
    reboot = "REBOOT" if chip is Chip.RP2040 else "REBOOT2"
    assert fake.commands[-1] == reboot
    assert fake.commands[-2] == "READ"


@pytest.mark.parametrize("chip", CHIPS)
def test_given_a_board_when_rebooted_then_nothing_but_that_is_asked_of_it(chip: Chip) -> None:
    fake = board(chip)
    Picoboot(fake.connect, chip).reboot(limit())
    assert fake.restarted
    assert len(fake.commands) == 1
    assert bytes(fake.flash) == content(chip, 5 * SECTOR, OLD)


@settings(max_examples=60, deadline=None)
@given(chip=st.sampled_from(CHIPS), transfer=st.integers(1, 200))
def test_given_a_plug_that_is_pulled_at_any_transfer_then_the_board_starts_a_whole_image_or_none(
    chip: Chip, transfer: int
) -> None:
    fake = board(chip)
    fake.unplug_at = transfer
    try:
        flash(fake)
    except OSError:
        assert not fake.present
    assert fake.opened == fake.closed

    if fake.power_cycle() == "application":
        whole = (content(chip, 5 * SECTOR, OLD), content(chip, SIZE, NEW))
        assert any(bytes(fake.flash[: len(each)]) == each for each in whole)
    else:  # it waits in its bootloader, and can be given the image again
        again = FakeBootloader(chip, fake.flash)
        flash(again)
        assert again.power_cycle() == "application"


@settings(max_examples=40, deadline=None)
@given(
    chip=st.sampled_from(CHIPS),
    command=st.integers(1, 12),
    silent=st.booleans(),
    code=st.integers(1, 30),
)
def test_given_a_bootloader_that_refuses_or_hangs_at_any_command_then_that_is_said_and_tried_again(
    chip: Chip, command: int, silent: bool, code: int
) -> None:
    fake = board(chip)
    if silent:
        fake.silent_at = command
    else:
        fake.stall_at, fake.stall_code = command, code

    with pytest.raises(BootloaderFailed, match="did not answer" if silent else "refused") as told:
        flash(fake)
    assert fake.commands[-1] in str(told.value)
    if not silent:
        name = Code(code).name if code in set(Code) else f"error {code}"
        assert name in str(told.value)

    fake.stall_at = fake.silent_at = None
    flash(fake)
    assert bytes(fake.flash[:SIZE]) == content(chip, SIZE, NEW)


@pytest.mark.parametrize("sector", range(4))
def test_given_a_worn_sector_when_flashed_then_reading_back_finds_it(sector: int) -> None:
    fake = board(Chip.RP2040)
    fake.worn = {sector}
    address = uf2.FLASH_ADDRESS + sector * SECTOR
    with pytest.raises(BootloaderFailed, match=f"flash at {address:#010x} reads .* worn out"):
        flash(fake)
    assert not fake.restarted
    if sector:  # whatever is wrong behind the first sector, nothing of it is ever started
        assert fake.power_cycle() == "bootloader"


def test_given_an_image_that_the_flash_is_too_small_for_then_reading_back_finds_it() -> None:
    fake = FakeBootloader(Chip.RP2040, bytearray(b"\xff" * 2 * SECTOR))
    with pytest.raises(BootloaderFailed, match="was written"):
        flash(fake)


@pytest.mark.parametrize("chip", CHIPS)
def test_given_what_a_killed_worker_left_half_said_then_the_next_begins_anew(chip: Chip) -> None:
    for cut in (12, 20, 28):
        fake = board(chip)
        killed = RuntimeError("killed")

        def die(number: int, cut: int = cut, killed: RuntimeError = killed) -> None:
            if number == cut:
                raise killed

        fake.on_transfer = die
        with pytest.raises(RuntimeError):
            flash(fake)
        fake.on_transfer = lambda _: None
        assert fake.power_cycle() == "bootloader"

        flash(fake)
        assert bytes(fake.flash[:SIZE]) == content(chip, SIZE, NEW)
        assert fake.power_cycle() == "application"


def test_given_a_step_that_nobody_waits_for_any_more_then_it_ends_at_the_next_command() -> None:
    fake = board(Chip.RP2040)
    waited = limit()

    def give_up(number: int) -> None:
        if number == 20:
            waited.abandoned.set()

    fake.on_transfer = give_up
    with pytest.raises(BootloaderFailed, match="given up"):
        Picoboot(fake.connect, fake.chip).flash(image(fake.chip), waited)
    assert fake.transfers < 25
    assert fake.closed == 1
    assert fake.power_cycle() == "bootloader"


def test_given_no_time_left_then_the_board_is_not_touched() -> None:
    fake = board(Chip.RP2040)
    with pytest.raises(BootloaderFailed, match="longer than allowed"):
        Picoboot(fake.connect, fake.chip).flash(image(fake.chip), StepLimit(Deadline.after(0)))
    assert fake.transfers == 0


@settings(max_examples=5, deadline=None)
@given(order=st.permutations(range(16)), seed=st.integers(0, 1000))
def test_given_16_bootloaders_that_look_alike_when_flashed_at_once_then_each_gets_its_own_image(
    order: list[int], seed: int
) -> None:
    boards = {f"1-1.{number // 4}.{number % 4}": board(Chip.RP2040) for number in order}
    sizes = random.Random(seed)
    images = {
        path: image(Chip.RP2040, sizes.randrange(1, 16) * 256 + SECTOR, fill)
        for fill, path in enumerate(boards)
    }
    with ThreadPoolExecutor(16) as threads:
        done = [threads.submit(flash, boards[path], images[path]) for path in boards]
    assert [each.result() for each in done] == [None] * 16

    for path, fake in boards.items():
        wanted = uf2.decode(images[path]).payload
        assert bytes(fake.flash[: len(wanted)]) == wanted
        assert (fake.opened, fake.closed) == (1, 1)
    assert len({bytes(fake.flash) for fake in boards.values()}) == 16


def test_given_the_fake_then_it_says_bad_alignment_and_addresses_as_the_roms_do() -> None:
    from icebus.schemas.boards import picoboot
    from icebus.worker.hardware.bootloaders.picoboot import Conversation

    fake = board(Chip.RP2350)
    conversation = Conversation(fake, limit())
    conversation.begin()
    refused = {
        picoboot.flash_erase(uf2.FLASH_ADDRESS + 256, SECTOR): "BAD_ALIGNMENT",
        picoboot.read(0x2000_0001, 256): "BAD_ALIGNMENT",
        picoboot.read(0x2000_0000, 256): "INVALID_ADDRESS",
        picoboot.reboot(Chip.RP2040): "UNKNOWN_COMMAND",
        picoboot.Command(0x05, bytes(8), 256): "INVALID_TRANSFER_LENGTH",
        picoboot.Command(0x05, bytes(4), 0): "INVALID_COMMAND_LENGTH",
    }
    for command, why in itertools.chain(refused.items(), refused.items()):
        with pytest.raises(BootloaderFailed, match=why):
            conversation.run(command)
    assert conversation.read(uf2.FLASH_ADDRESS, 256) == bytes(fake.flash[:256])
