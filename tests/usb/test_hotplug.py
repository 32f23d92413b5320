"""The unmodified worker with boards that come, go and change on a made-up USB."""

from __future__ import annotations

import os
import random
import shutil
import time
from typing import TYPE_CHECKING

import pytest
from tests.usb.bus import Shown, UsbBus, application, bootloader
from tests.usb.opened import Untouchable
from tests.worker.waiting import eventually

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.devices import DeviceState

if TYPE_CHECKING:
    from tests.usb.conftest import MakeBoards, StartWorker
    from tests.worker.peers import Peers

pytestmark = pytest.mark.slow

LOOK_EVERY = 15.0
"""Seconds between looks of the worker without an event."""

BOOTLOADERS = {
    Chip.RP2040: bootloader(Chip.RP2040),
    Chip.RP2350: bootloader(Chip.RP2350, "B1"),
}


def test_given_a_board_when_plugged_then_it_is_ready_and_absent_when_it_goes(
    bus: UsbBus, make_boards: MakeBoards, start_worker: StartWorker, peers: Peers
) -> None:
    behind = make_boards(1)
    start_worker()
    bus.plug("1-1.2", application("B1", behind.put("B1", "ttyACM0")))
    report = peers.wait_state("B1", DeviceState.READY)
    assert (report.port, report.chip, report.virtual) == ("1-1.2", "", False)
    assert report.labels == {"hub": "1-1"}
    begun = time.monotonic()
    bus.unplug("1-1.2")
    peers.wait_state("B1", DeviceState.ABSENT)
    assert time.monotonic() - begun < LOOK_EVERY / 2, "an event told it, not the next look"


def test_given_twenty_boards_when_they_come_and_go_like_a_storm_then_each_is_what_it_is_in_the_end(
    bus: UsbBus, make_boards: MakeBoards, start_worker: StartWorker, peers: Peers
) -> None:
    behind = make_boards(20)
    hubs = ["1-1.1", "1-1.2", "2-3", "2-4.1.2"]
    shown: dict[str, Shown] = {}
    for number in range(20):
        serial = f"B{number + 1}"
        port = f"{hubs[number % 4]}.{number // 4 + 1}"
        tty = behind.put(serial, f"ttyACM{2 * number}")
        product = ("icebus pico-ice", "icebus pico2-ice")[number % 2]
        shown[port] = application(serial, tty, product, f"ttyACM{2 * number + 1}")
    for port in list(shown)[:10]:  # some were there before
        bus.plug(port, shown[port])
    start_worker()
    order = random.Random(7)
    plugged = set(list(shown)[:10])
    for port in order.choices(list(shown), k=100):
        if port in plugged:
            plugged.remove(port)
            bus.unplug(port)
        else:
            plugged.add(port)
            bus.plug(port, shown[port])
    for port in sorted(set(shown) - plugged)[:-2]:
        plugged.add(port)
        bus.plug(port, shown[port])
    for port, each in shown.items():
        if port in plugged:
            report = peers.wait_state(each.serial, DeviceState.READY)
            assert report.port == port
            assert report.chip == ("rp2350" if "pico2" in each.product else "rp2040")
            assert report.labels == {"hub": port.rpartition(".")[0]}
        elif peers.last(each.serial) is not None:
            peers.wait_state(each.serial, DeviceState.ABSENT)


@pytest.mark.parametrize("chip", list(Chip))
def test_given_a_board_that_goes_to_its_bootloader_and_back_then_it_is_the_same_device(
    chip: Chip,
    bus: UsbBus,
    make_boards: MakeBoards,
    start_worker: StartWorker,
    peers: Peers,
) -> None:
    behind = make_boards(1)
    shown = application("B1", behind.put("B1", "ttyACM0"))
    bus.plug("1-1.2", shown)
    start_worker()
    peers.wait_state("B1", DeviceState.READY)
    for _ in range(3):
        mark = peers.mark("B1")
        bus.unplug("1-1.2")
        peers.wait_since("B1", mark, DeviceState.ABSENT)
        bus.plug("1-1.2", BOOTLOADERS[chip])
        wait_in_bootloader(peers, mark)
        mark = peers.mark("B1")
        bus.unplug("1-1.2")
        bus.plug("1-1.2", shown)
        report = peers.wait_since("B1", mark, DeviceState.READY)
        assert report.chip == chip, "the bootloader has said it"
    assert list(peers.reports) == ["B1"]


def wait_in_bootloader(peers: Peers, mark: int) -> None:
    """Wait until the bootloader at its port is taken for that of the board."""

    def look() -> bool:
        reports = [report for report in peers.reports["B1"][mark:] if report is not None]
        absent = [report.state for report in reports].index(DeviceState.ABSENT)
        return any(report.port == "1-1.2" for report in reports[absent:])

    peers.wait(look, "the bootloader")


@pytest.mark.parametrize("chip", list(Chip))
def test_given_a_worker_that_is_killed_when_its_board_is_in_its_bootloader_then_it_is_known_again(
    chip: Chip,
    bus: UsbBus,
    make_boards: MakeBoards,
    start_worker: StartWorker,
    peers: Peers,
) -> None:
    behind = make_boards(1)
    shown = application("B1", behind.put("B1", "ttyACM0"))
    bus.plug("1-1.2", shown)
    first = start_worker()
    peers.wait_state("B1", DeviceState.READY)
    first.kill()
    bus.unplug("1-1.2")
    bus.plug("1-1.2", BOOTLOADERS[chip])
    bus.plug("1-1.3", bootloader(Chip.RP2040))
    second = start_worker()
    eventually(
        lambda: "left alone at USB port 1-1.3: the bootloader of" in second.log.read_text(),
        "word of what is left alone",
    )
    assert "left alone at USB port 1-1.2" not in second.log.read_text()
    mark = peers.mark("B1")
    bus.unplug("1-1.2")
    bus.plug("1-1.2", shown)
    assert peers.wait_since("B1", mark, DeviceState.READY).chip == chip


def test_given_a_board_that_returns_elsewhere_then_it_is_the_same_device_with_its_reservation(
    bus: UsbBus, make_boards: MakeBoards, start_worker: StartWorker, peers: Peers
) -> None:
    behind = make_boards(1, "pulse_count")
    shown = application("B1", behind.put("B1", "ttyACM0"))
    bus.plug("1-1.2", shown)
    start_worker()
    peers.wait_state("B1", DeviceState.READY)
    peers.reserve("B1")
    mark = peers.mark("B1")
    bus.unplug("1-1.2")
    peers.wait_since("B1", mark, DeviceState.ABSENT)
    bus.plug("2-4.1", shown)
    assert peers.wait_since("B1", mark, DeviceState.SERVING).port == "2-4.1"


def test_given_two_boards_of_one_serial_then_neither_is_used_until_one_goes(
    bus: UsbBus, make_boards: MakeBoards, start_worker: StartWorker, peers: Peers
) -> None:
    behind = make_boards(2)
    bus.plug("1-1.2", application("B1", behind.put("B1", "ttyACM0")))
    start_worker()
    peers.wait_state("B1", DeviceState.READY)
    bus.plug("1-1.3", application("B1", behind.put("B2", "ttyACM1")))
    report = peers.wait_state("B1", DeviceState.BROKEN)
    assert report.reason == "2 boards show the serial B1; unplug one"
    bus.unplug("1-1.2")
    assert peers.wait_state("B1", DeviceState.READY).port == "1-1.3"


def test_given_no_right_to_a_port_then_the_report_has_the_remedy_and_the_board_returns_with_it(
    bus: UsbBus, make_boards: MakeBoards, start_worker: StartWorker, peers: Peers
) -> None:
    behind = make_boards(1)
    tty = behind.put("B1", "ttyACM0")
    port = (bus.root / "dev" / tty).resolve()
    port.chmod(0)
    bus.plug("1-1.2", application("B1", tty))
    start_worker("", *unprivileged())
    report = peers.wait_state("B1", DeviceState.BROKEN)
    assert "no right to open /dev/ttyACM0: install icebus's udev rules" in report.reason
    port.chmod(0o600)
    bus.change("1-1.2")
    peers.wait_state("B1", DeviceState.READY)


def unprivileged() -> list[str]:
    """Starts a program without root's right to open everything, for tests that root runs."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv (util-linux), or another user than root")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def test_given_devices_of_others_then_they_are_never_opened_until_the_configuration_names_them(
    bus: UsbBus,
    make_boards: MakeBoards,
    start_worker: StartWorker,
    peers: Peers,
    untouchable: Untouchable,
) -> None:
    behind = make_boards(2)
    for name in ("ttyACM7", "ttyACM8", "ttyACM9"):
        bus.device_file(name, untouchable.path)
    bus.plug("1-1.8", Shown(0x2E8A, 0x000A, "KEYBOARD", "Pico", {0: "ttyACM8"}))
    bus.plug("1-1.7", Shown(0x2341, 0x0043, "ARDUINO", "Uno", {0: "ttyACM7"}))
    bus.plug("1-1.2", application("B1", behind.put("B1", "ttyACM0")))
    bus.plug("1-1.3", Shown(0x2E8A, 0x0009, "B2", "Pico", {0: behind.put("B2", "ttyACM1")}))
    bus.plug("1-1.4", application("B9", "ttyACM9"))
    start_worker(
        """
        [usb]
        exclude = ["1-1.4"]

        [[usb.boards]]
        port = "1-1.3"
        owned = true
        labels = {bench = "3"}
        """
    )
    peers.wait_state("B1", DeviceState.READY)
    report = peers.wait_state("B2", DeviceState.READY)
    assert (report.chip, report.labels) == ("rp2350", {"hub": "1-1", "bench": "3"})
    assert sorted(peers.reports) == ["B1", "B2"]


def test_given_a_board_with_several_serial_ports_then_only_its_console_is_opened(
    bus: UsbBus,
    make_boards: MakeBoards,
    start_worker: StartWorker,
    peers: Peers,
    untouchable: Untouchable,
) -> None:
    behind = make_boards(1)
    for name in ("ttyACM0", "ttyACM1"):
        bus.device_file(name, untouchable.path)
    shown = application("B1", behind.put("B1", "ttyACM3"), "pico-ice", "ttyACM0", "ttyACM1")
    bus.plug("1-1.2", shown)
    start_worker()
    peers.wait_state("B1", DeviceState.READY)


def test_given_a_system_without_udev_then_boards_are_found_by_polling(
    bus: UsbBus, make_boards: MakeBoards, start_worker: StartWorker, peers: Peers
) -> None:
    behind = make_boards(1)
    shown = application("B1", behind.put("B1", "ttyACM0"))
    bus.plug("1-1.2", shown)
    start_worker('usb.finding = "polling"')
    assert peers.wait_state("B1", DeviceState.READY).port == "1-1.2"
    bus.unplug("1-1.2")
    peers.wait_state("B1", DeviceState.ABSENT)
    bus.plug("1-1.3", shown)
    assert peers.wait_state("B1", DeviceState.READY).port == "1-1.3"


def test_given_the_wrong_firmware_and_an_unknown_chip_then_the_report_says_what_to_configure(
    bus: UsbBus, make_boards: MakeBoards, start_worker: StartWorker, peers: Peers
) -> None:
    behind = make_boards(1, "default")
    bus.plug("1-1.2", application("B1", behind.put("B1", "ttyACM0")))
    start_worker()
    peers.wait_state("B1", DeviceState.READY)
    peers.desire("B1", peers.hold)
    report = peers.wait_state("B1", DeviceState.BROKEN)
    assert "as `chip` in [[usb.boards]]" in report.reason
