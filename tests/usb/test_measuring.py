"""From the cable to the count: a whole farm whose board is on a made-up USB."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.usb.bus import UsbBus, application
from tests.worker.waiting import TIMEOUT, eventually

from icebus.broker.embedded import EmbeddedBroker
from icebus.client import PulseCountClient
from icebus.schemas.errors import IcebusError
from icebus.schemas.kinds.pulsecount import KIND
from icebus.worker.firmware import installed_firmware

if TYPE_CHECKING:
    from tests.usb.conftest import MakeBoards, StartWorker

pytestmark = pytest.mark.slow

CIRCUITS = Path(__file__).parents[2] / "examples" / "circuits"


@pytest.fixture
def control(broker: EmbeddedBroker, tmp_path: Path) -> Iterator[None]:
    """Control, as it is run."""
    command = ["-m", "icebus.control.cli", "--database", f"sqlite:///{tmp_path / 'control.db'}"]
    with (tmp_path / "control.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, "ICEBUS_BROKER": broker.address("main").url()},
            stderr=log,
        )
    yield
    process.terminate()
    process.wait(TIMEOUT)


@pytest.mark.parametrize("firmware", sorted({"pulse_count", "icebus"} & set(installed_firmware())))
def test_given_a_board_on_usb_then_it_is_reserved_and_counts_and_goes_on_where_it_returns(
    firmware: str,
    bus: UsbBus,
    make_boards: MakeBoards,
    start_worker: StartWorker,
    broker: EmbeddedBroker,
    control: None,
) -> None:
    behind = make_boards(1, firmware)
    shown = application("B1", behind.put("B1", "ttyACM0"), "icebus pico-ice", "ttyACM1")
    bus.plug("1-1.2", shown)
    start_worker()
    # Firmware of ours counts for as long as it is asked to, text firmware for its own 50 ms.
    measured = {"window": 0.05} if firmware == "icebus" else {}
    circuits = [CIRCUITS / f"pulse_{name}.bin" for name in ("2khz", "8khz")]
    with PulseCountClient(broker.address("alice").url(), timeout=TIMEOUT) as client:
        eventually(lambda: client.available(KIND), "a board to reserve")
        with client.reserve(serials=["B1"]) as boards:
            first = [result.pulses for result in boards.evaluate(circuits, args=measured)]
            bus.unplug("1-1.2")
            bus.plug("1-1.4", shown)

            def counts() -> list[int]:
                with contextlib.suppress(IcebusError):  # it is not back yet
                    return [result.pulses for result in boards.evaluate(circuits, args=measured)]
                return []

            second = eventually(counts, "the board to count where it returned")
            (device,) = client.devices()
    assert device.report is not None
    assert device.report.port == "1-1.4"
    for counted in (first, second):  # in 50 ms
        assert counted == [pytest.approx(100, abs=3), pytest.approx(400, abs=10)]
