"""What proves a flash: that the board says it runs what it was given, in that version."""

from __future__ import annotations

from unittest import mock

import pytest

from icebus.schemas.devices import DeviceState
from icebus.worker.firmware.framed import FramedFirmware
from icebus.worker.firmware.pulse_count import PulseCountFirmware
from icebus.worker.states import core


@pytest.mark.parametrize(
    ("expected", "said"),
    [("0.2.0", "0.2.0"), ("0.2.0", ""), ("", "0.1.0")],
    ids=["the same", "the firmware does not say", "the image does not say"],
)
def test_given_a_board_that_says_what_it_was_given_then_it_is_proved(
    expected: str, said: str
) -> None:
    state = core.Testing(DeviceState.TESTING, "icebus", version=expected)
    state.device = mock.Mock()
    state.passed(FramedFirmware(), said)
    state.device.proved.assert_called_once_with("icebus", said)
    state.device.fail.assert_not_called()


def test_given_a_board_that_comes_up_with_an_older_version_then_it_has_failed() -> None:
    state = core.Testing(DeviceState.TESTING, "icebus", version="0.2.0")
    state.device = mock.Mock()
    state.passed(FramedFirmware(), "0.1.0")
    state.device.fail.assert_called_once_with("flashed with icebus 0.2.0 but runs icebus 0.1.0")
    state.device.proved.assert_not_called()


def test_given_a_board_that_comes_up_with_another_firmware_then_it_has_failed() -> None:
    state = core.Testing(DeviceState.TESTING, "icebus", version="0.2.0")
    state.device = mock.Mock()
    state.passed(PulseCountFirmware(), "0.2.0")
    state.device.fail.assert_called_once_with("flashed with icebus but runs pulse_count")
