"""What a board's way through its bootloader makes of a step that fails too late to matter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import Mode
from icebus.schemas.devices import DeviceState
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.hardware.bootloaders.bootloader import BootloaderFailed, BootloaderUnreachable
from icebus.worker.states import core


def board(mode: Mode) -> ConnectedBoard:
    tty = Path("/dev/ttyACM0") if mode is Mode.APPLICATION else None
    return ConnectedBoard("1-1", mode, Chip.RP2040, "S1", tty, None, False, mode)


class Restarting:
    """A board that is being restarted in its bootloader, by a step that has not ended yet."""

    def __init__(self) -> None:
        self.state = core.Rebooting(DeviceState.TESTING, "looked at again")
        self.device = self.state.device = mock.Mock()
        self.device.board = board(Mode.BOOTLOADER)
        self.state.on_enter()
        *_, self.fail_step = self.device.run_on_thread.call_args.args

    fail_step: Callable[[Exception], None]


@pytest.mark.parametrize("error", [BootloaderUnreachable("none is there"), BootloaderFailed("no")])
def test_given_an_application_that_is_back_when_the_step_fails_then_it_is_waited_for(
    error: Exception,
) -> None:
    restarting = Restarting()
    restarting.device.board = board(Mode.APPLICATION)  # its port is still being opened
    restarting.fail_step(error)
    restarting.device.fail.assert_not_called()
    restarting.state.on_add(mock.Mock())
    restarting.device.found.assert_called_once()


@pytest.mark.parametrize("error", [BootloaderUnreachable("none is there"), BootloaderFailed("no")])
def test_given_a_board_in_its_bootloader_when_the_step_fails_then_the_board_has_failed(
    error: Exception,
) -> None:
    restarting = Restarting()
    restarting.fail_step(error)
    restarting.device.fail.assert_called_once()
