"""Kinds and what measurements ask for, on a farm whose boards run icebus's own firmware."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.farm.conftest import TIMEOUT, Machine, Up, wait_until

from icebus.client import Failure, PulseCountClient, VarianceClient
from icebus.client._profiles.farm_directory import profile_path
from icebus.schemas.errors import DeviceFailed, MeasurementUnsupported

if TYPE_CHECKING:
    from tests.command_line import Icebus

IDLE = {"queued": 0, "measuring": None, "unacknowledged": 0, "capacity": 64}
"""What a board answers to `status` that has nothing to do."""

HERTZ = (2000, 8000, 32000)
"""Of the circuits."""


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A farm of two boards as they come."""
    home = tmp_path_factory.mktemp("machine")
    with Machine(home).up("--boards", "2", "--seed", "7", "--user", "ann") as up:
        yield up


@pytest.fixture
def profile(farm: Up) -> Path:
    return profile_path(farm.directory, "ann")


def test_given_pins_and_a_window_then_boards_count_each_of_them_for_that_long(
    profile: Path, circuits: Sequence[Path]
) -> None:
    args = {"pins": [27, 25], "window": 0.1}
    with PulseCountClient(farm=profile) as client, client.reserve(2) as boards:
        results = list(boards.evaluate(circuits, args=args))
    assert len(results) == 6
    for result in results:
        hertz = HERTZ[[path.name for path in circuits].index(result.bitstream)]
        assert list(result.pin_pulses) == [27, 25]
        assert result.pulses == result.pin_pulses[27] == pytest.approx(hertz / 10, abs=1)
        assert result.counted == pytest.approx(0.1, rel=0.001)
        assert result.frequency == pytest.approx(hertz, abs=10)
        assert result.resolution == pytest.approx(10, rel=0.001)
        assert result.temperature is not None


def test_given_windows_longer_than_the_reservation_then_it_is_kept_until_all_are_measured(
    profile: Path, circuits: Sequence[Path]
) -> None:
    with PulseCountClient(farm=profile) as client, client.reserve(1, duration=2) as boards:
        (result,) = boards.evaluate(circuits[:1], args={"window": 3})
        assert result.pulses == pytest.approx(6000, abs=1)
        assert boards.ended is None


def test_given_a_pin_that_boards_dont_have_then_the_failure_says_so(
    profile: Path, circuits: Sequence[Path]
) -> None:
    with PulseCountClient(farm=profile) as client, client.reserve(2) as boards:
        outcomes = list(boards.map_outcomes(circuits[:1], args={"pins": [4]}))
    (failure,) = outcomes
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, MeasurementUnsupported)
    assert "pins" in failure.error.message


def test_given_voltages_then_they_tell_circuits_apart_and_are_marked_as_synthetic(
    profile: Path, circuits: Sequence[Path]
) -> None:
    with VarianceClient(farm=profile) as client, client.reserve(2) as boards:
        results = {each.bitstream: each for each in boards.map(circuits, args={"waveform": True})}
    differences = [results[path.name].mean_difference for path in circuits]
    assert differences == sorted(differences, reverse=True), "the faster, the less of it is left"
    for result in results.values():
        assert (result.exact, "synthetic" in result.note) == (False, True)
        assert len(result.waveform or []) == result.samples == 500


def test_given_a_board_when_its_holder_reboots_it_in_a_long_window_then_that_fails_at_once(
    profile: Path, circuits: Sequence[Path]
) -> None:
    with PulseCountClient(farm=profile) as client, client.reserve(1) as boards:
        (serial,) = boards.serials
        with ThreadPoolExecutor(1) as pool:
            run = boards.evaluate_outcomes(circuits[:1], args={"window": 60})
            ended = pool.submit(list, run)
            wait_until(lambda: client.call(boards, [serial], "status").results[serial] != IDLE)
            boards.reboot(serial)
            (failure,) = ended.result(TIMEOUT)
        assert isinstance(failure, Failure)
        assert isinstance(failure.error, DeviceFailed)
        assert "ann asked for a reboot" in failure.error.message
        (result,) = boards.evaluate(circuits[:1], args={"window": 0.05})
        assert result.pulses == pytest.approx(100, abs=1)


def test_given_the_command_line_then_it_has_arguments_columns_and_pictures_of_both_kinds(
    icebus: Icebus, circuits: Sequence[Path], tmp_path: Path
) -> None:
    asked = ("--measure", "pins=27", "--measure", "pins=25", "--measure", "window=0.05")
    done = icebus("evaluate", "-n", 1, *asked, "--plot", tmp_path / "a.png", circuits[0])
    assert done.code == 0, done.stderr
    title, row = done.stdout.splitlines()
    assert "PIN PULSES" in title
    assert "27=100 25=0" in row
    picture = tmp_path / "b.png"
    done = icebus("map", "-n", 1, "--kind", "variance", "--plot", picture, circuits[0])
    assert done.code == 0, done.stderr
    assert "MEAN DIFFERENCE" in done.stdout
    assert picture.stat().st_size > (tmp_path / "a.png").stat().st_size, "the waveform is drawn"
