"""The example of a kind in a package of its own: its firmware, and the whole on a farm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.packages import install
from tests.rack.steps import ASKED, evaluation_of
from tests.rack.steps import lines_of as lines_in

from icebus.rack.firmware import FirmwareSettings
from icebus.rack.verdict import Verdict

FREQUENCY = Path(__file__).parents[2] / "examples" / "frequency"
EXACT = Verdict.of(200)
MEASURE = b"measure 0.1 1 5\nhello"


@pytest.fixture(scope="module", autouse=True)
def importable() -> Iterator[None]:
    sys.path.insert(0, str(FREQUENCY))
    yield
    sys.path.remove(str(FREQUENCY))


def virtual() -> Any:
    from icebus_frequency.virtual import VirtualFrequency

    return VirtualFrequency(FirmwareSettings(), Random(0))


def lines_of(firmware: Any, pieces: list[bytes]) -> list[str]:
    return [line for piece in pieces for line in lines_in(firmware.receive(piece, 0.0))]


def test_given_a_question_behind_anything_then_it_is_answered() -> None:
    assert lines_of(virtual(), [b"\xff" * 1000 + b"\n?\n"]) == ["frequency ready"]


@given(st.integers(0, len(MEASURE)))
def test_given_a_measurement_in_pieces_then_it_is_reported_at_its_end(cut: int) -> None:
    firmware = virtual()
    steps = [firmware.receive(piece, 1.0) for piece in (MEASURE[:cut], MEASURE[cut:]) if piece]
    assert evaluation_of(steps[-1]).bitstream == b"hello"
    assert evaluation_of(steps[-1]).cycles == 4_800_000
    assert lines_in(firmware.measured(ASKED, EXACT, 1.01)) == ()
    assert lines_in(firmware.wake(firmware.deadline)) == ("hertz 2000.000000 resolution 10.000000",)
    assert (firmware.deadline, firmware.wants > 0) == (None, True)


def test_given_a_simulation_that_takes_longer_then_the_report_waits_for_it() -> None:
    firmware = virtual()
    firmware.receive(MEASURE, 1.0)
    assert lines_in(firmware.wake(1.2)) == ()
    assert firmware.deadline is None
    assert lines_in(firmware.measured(ASKED, Verdict.unsupported("BRAM"), 1.3))[0].startswith(
        "error "
    )


def test_given_the_package_when_installed_then_its_own_tests_pass_on_a_farm(
    mosquitto: None, tmp_path: Path
) -> None:
    up = [sys.executable, "-m", "icebus.client.cli", "up", "--boards", "2", "--bandwidth", "0"]
    check = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(FREQUENCY)]
    done = subprocess.run(
        [*up, "--", *check],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_given_the_package_then_the_command_line_knows_its_arguments_and_columns(
    mosquitto: None, tmp_path: Path
) -> None:
    up = [sys.executable, "-m", "icebus.client.cli", "up", "--boards", "1", "--bandwidth", "0"]
    evaluate = [sys.executable, "-m", "icebus.client.cli", "evaluate", "--kind", "frequency"]
    evaluate += ["--arg", "gate=0.05", "--measure", "repeats=2", "-o", "json"]
    done = subprocess.run(
        [*up, "--", *evaluate, str(FREQUENCY.parent / "circuits" / "pulse_2khz.bin")],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [result] = json.loads(done.stdout[done.stdout.index("[\n") :])
    assert (result["hertz"], result["resolution"]) == pytest.approx((2000, 10), abs=10)


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ICEBUS_")}
    installed = install(FREQUENCY, home / "installed")
    return {
        **kept,
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "PYTHONPATH": installed,
    }
