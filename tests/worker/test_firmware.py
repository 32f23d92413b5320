"""Firmware is a plug: a package says how it is recognised, asked, and driven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas.boards.firmware import Chip, read_marker
from icebus.schemas.boards.rack import Mode
from icebus.schemas.boards.uf2 import FLASH_ADDRESS, decode, encode
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import (
    BitstreamUnsupported,
    FirmwareInvalid,
    FirmwareUnknown,
    IcebusError,
)
from icebus.worker.firmware import (
    AnsweringFirmware,
    AnsweringMeter,
    Measured,
    MeterCallbacks,
    installed_firmware,
)
from icebus.worker.firmware.framed import FramedFirmware
from icebus.worker.firmware.pulse_count import PulseCountFirmware, _firmware
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.hardware.flashing import check_image
from icebus.worker.installed import Installed
from icebus.worker.loop import Timer
from icebus.worker.states import installed_kinds

if TYPE_CHECKING:
    from tests.worker.conftest import MakeDeviceHarness
    from tests.worker.device_harness import DeviceHarness

pytestmark = pytest.mark.timeout(60)


class Thermometer(AnsweringFirmware):
    name = "thermometer"
    question = b"\n?\n"
    answer = "thermometer ready"


class Celsius(AnsweringMeter[float]):
    def read(self, line: str) -> float | IcebusError | None:
        if line == "broken":
            return BitstreamUnsupported("no sensor")
        name, _, value = line.partition(" ")
        return float(value) if name == "celsius" else None


WITH_ANOTHER = Installed(installed_kinds(), {**installed_firmware(), "thermometer": Thermometer()})


# --- several firmware ---------------------------------------------------------------------------


@pytest.fixture
def unknown(make_harness: MakeDeviceHarness) -> DeviceHarness:
    """A device of whose board nothing is known, with a package installed that brings firmware."""
    harness = make_harness(installed=WITH_ANOTHER, check_every=0.05)
    harness.plug()
    return harness


def answer(harness: DeviceHarness) -> None:
    assert harness.board.take(len(Thermometer.question)) == Thermometer.question
    harness.board.say("?", Thermometer.answer)


def test_given_a_silent_board_then_firmware_of_a_package_is_asked_for_and_checked(
    unknown: DeviceHarness,
) -> None:
    answer(unknown)
    assert unknown.recorder.wait_state(DeviceState.READY).firmware == "thermometer"
    for _ in range(2):
        answer(unknown)
    assert unknown.recorder.states == [DeviceState.TESTING, DeviceState.READY]


def test_given_a_board_that_does_not_answer_one_then_the_next_asks(
    unknown: DeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Thermometer, "answers_within", 0.05)
    unknown.board.take(len(Thermometer.question))
    unknown.pass_test()
    assert unknown.recorder.wait_state(DeviceState.READY).firmware == "pulse_count"


def test_given_a_question_that_another_firmware_takes_for_a_transfer_then_it_is_still_recognised(
    unknown: DeviceHarness,
) -> None:
    unknown.board.start(len(Thermometer.question))
    unknown.board.watchdog(len(Thermometer.question))
    report = unknown.recorder.wait_state(DeviceState.READY)
    assert report.firmware == "pulse_count"


def test_given_a_board_that_answers_nobody_then_it_is_unrecognised(
    unknown: DeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Thermometer, "answers_within", 0.05)
    monkeypatch.setattr(_firmware, "ANSWER", 0.05)
    report = unknown.recorder.wait_state(DeviceState.FLASHING)
    assert "what the board runs is not known" in report.reason


def test_given_an_idle_board_of_a_package_that_falls_silent_then_it_is_tested_anew(
    unknown: DeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(unknown)
    unknown.recorder.wait_state(DeviceState.READY)
    mark = len(unknown.recorder.reports)
    monkeypatch.setattr(Thermometer, "answers_within", 0.05)
    report = unknown.recorder.wait_state(DeviceState.TESTING, mark)
    assert "while idle, the board did not answer" in report.reason


# --- images -------------------------------------------------------------------------------------


def board(chip: Chip | None, virtual: bool) -> ConnectedBoard:
    return ConnectedBoard("1-1", "s", chip, "S1", None, None, virtual, Mode.APPLICATION)


@pytest.mark.parametrize("chip", list(Chip))
def test_given_a_virtual_board_then_its_image_is_a_marker_for_its_chip(chip: Chip) -> None:
    marker = read_marker(decode(Thermometer().image(board(chip, virtual=True))).payload)
    assert marker is not None
    assert (marker.name, marker.chip) == ("thermometer", chip)


def test_given_a_real_board_then_its_image_is_what_the_package_brings_or_there_is_none() -> None:
    class Bringing(Thermometer):
        def uf2(self, chip: Chip) -> bytes | None:
            return b"uf2" if chip is Chip.RP2350 else None

    assert Bringing().image(board(Chip.RP2350, virtual=False)) == b"uf2"
    with pytest.raises(FirmwareUnknown, match="rp2040"):
        Bringing().image(board(Chip.RP2040, virtual=False))


def test_given_an_emulated_board_then_its_image_is_that_of_real_ones_and_no_other_is_copied() -> (
    None
):
    class Bringing(Thermometer):
        def uf2(self, chip: Chip) -> bytes | None:
            return encode(b"program", chip.family, FLASH_ADDRESS)

    emulated = replace(board(Chip.RP2040, virtual=True), emulated=True)
    image = Bringing().image(emulated)
    check_image(image, emulated)
    with pytest.raises(FirmwareInvalid, match="takes 0xE48BFF56"):
        check_image(Bringing().image(board(Chip.RP2040, virtual=True)), emulated)


def test_given_a_board_whose_chip_nobody_has_said_then_no_image_is_guessed() -> None:
    with pytest.raises(FirmwareUnknown, match=r"\[\[usb\.boards\]\]"):
        Thermometer().image(board(None, virtual=False))


def test_given_what_is_installed_then_silent_firmware_of_ours_is_asked_and_the_rest_heard() -> None:
    assert {each.name: each.silent for each in installed_firmware().values()} == {
        "default": False,
        FramedFirmware.name: True,
        PulseCountFirmware.name: True,
    }


# --- a meter for firmware that answers in lines ---------------------------------------------------


class Measurements:
    """A meter on a port that takes all at once, and what came of its measurements."""

    def __init__(self, waiting: list[str]) -> None:
        self.sent: list[bytes] = []
        self.ended: list[tuple[str, Measured[float] | IcebusError]] = []
        self.begun: list[str] = []
        self.silences: list[str] = []
        self.alarms: list[Timer] = []
        self._waiting = waiting
        port: Any = SimpleNamespace(send=self._send, sending=False)
        self.meter = Celsius(
            MeterCallbacks(
                port=lambda: port,
                after=self._after,
                on_measuring=self.begun.append,
                on_end=lambda key, how: self.ended.append((key, how)),
                on_wants_more=self.begin,
                on_silence=self.silences.append,
            )
        )

    def begin(self) -> None:
        if self._waiting:
            self.meter.measure(self._waiting.pop(0), b"data")

    def _send(self, data: bytes, on_sent: Callable[[], None]) -> None:
        self.sent.append(data)
        on_sent()

    def _after(self, _seconds: float, callback: Callable[[], None]) -> Timer:
        self.alarms.append(Timer(callback))
        return self.alarms[-1]


@given(st.data(), st.lists(st.sampled_from([1.5, 20.0, "broken"]), min_size=1, max_size=5))
def test_given_answers_in_any_pieces_then_each_measurement_ends_with_its_own(
    data: st.DataObject, answers: list[float | str]
) -> None:
    measurements = Measurements([str(number) for number in range(len(answers))])
    measurements.begin()
    for each in answers:
        said = f"hello\r\n{each if each == 'broken' else f'celsius {each}'}\r\n".encode()
        cut = data.draw(st.integers(0, len(said)))
        for piece in (said[:cut], said[cut:]):
            measurements.meter.receive(piece)
    assert [key for key, _ in measurements.ended] == measurements.begun
    reports = [
        how.report if isinstance(how, Measured) else "broken" for _, how in measurements.ended
    ]
    assert reports == answers
    assert measurements.meter.idle
    assert not any(alarm.pending for alarm in measurements.alarms)


def test_given_two_answers_in_one_breath_then_the_second_is_no_answer_to_what_follows() -> None:
    measurements = Measurements(["a", "b"])
    measurements.begin()
    measurements.meter.receive(b"celsius 1\ncelsius 2\n")
    assert [key for key, _ in measurements.ended] == ["a"]
    assert not measurements.meter.wants_more


def test_given_no_answer_in_time_then_the_measurement_fails_and_the_silence_is_told() -> None:
    measurements = Measurements(["a"])
    measurements.begin()
    ring = measurements.alarms[0].callback
    assert ring is not None
    ring()
    [(key, how)] = measurements.ended
    assert (key, isinstance(how, IcebusError)) == ("a", True)
    assert len(measurements.silences) == 1


def test_given_a_measurement_under_way_then_no_other_is_taken_until_it_is_abandoned() -> None:
    measurements = Measurements(["a"])
    measurements.begin()
    with pytest.raises(RuntimeError):
        measurements.meter.measure("b", b"")
    measurements.meter.abandon()
    measurements.meter.receive(b"celsius 1\n")
    assert measurements.ended == []
