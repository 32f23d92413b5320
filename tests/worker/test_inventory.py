"""Which device is at which port, told by snapshots of what is plugged."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import Mode
from icebus.worker.device.device import Device
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.inventory import Inventory


class FakeDevice:
    """Keeps what it is told, and refuses what makes no sense."""

    def __init__(self, serial: str | None, path: str) -> None:
        self.serial = serial
        self.name = serial or path
        self.board: ConnectedBoard | None = None
        self.conflict = ""
        self.stopped = False
        self.recorder: list[str] = []

    def plug(self, board: ConnectedBoard) -> None:
        assert not self.stopped
        self.board = board
        self.recorder.append(f"plug {board.path}")

    def unplug(self) -> None:
        assert self.board is not None, "unplugged what was not plugged"
        self.board = None
        self.recorder.append("unplug")

    def set_conflict(self, reason: str) -> None:
        assert bool(reason) != bool(self.conflict)
        self.conflict = reason
        self.recorder.append("conflict" if reason else "no conflict")

    def set_serial(self, serial: str) -> None:
        assert self.serial is None
        self.serial = serial

    def stop(self) -> None:
        self.stopped = True


class Lab:
    """An inventory of fake devices."""

    def __init__(self) -> None:
        self.made: list[FakeDevice] = []
        self.changes = 0
        self.inventory = Inventory(self._make, self._changed)
        self._sessions = itertools.count()

    def _make(self, serial: str | None, path: str) -> Device:
        self.made.append(FakeDevice(serial, path))
        return cast(Device, self.made[-1])

    def _changed(self) -> None:
        self.changes += 1

    def show(self, *boards: ConnectedBoard) -> None:
        self.inventory.update(boards)

    def device(self, serial: str) -> FakeDevice:
        return cast(FakeDevice, self.inventory.devices[serial])

    def application(self, serial: str, path: str, source: str = "") -> ConnectedBoard:
        session = f"s{next(self._sessions)}"
        tty = Path("/dev") / serial
        return ConnectedBoard(
            path, session, Chip.RP2040, serial, tty, None, True, Mode.APPLICATION, source
        )

    def bootloader(self, path: str, serial: str | None = None) -> ConnectedBoard:
        session = f"s{next(self._sessions)}"
        return ConnectedBoard(
            path, session, Chip.RP2040, serial, None, Path("/boot"), True, Mode.BOOTLOADER
        )


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_given_a_board_when_replugged_at_the_same_port_then_it_is_the_same_device(
    lab: Lab,
) -> None:
    lab.show(lab.application("A", "1-1"))
    lab.show()
    lab.show(lab.application("A", "1-1"))
    assert lab.device("A").recorder == ["plug 1-1", "unplug", "plug 1-1"]
    assert len(lab.made) == 1
    assert lab.changes == 1, "serials are listed once they are known"


def test_given_a_board_when_moved_to_another_port_then_it_is_the_same_device(lab: Lab) -> None:
    lab.show(lab.application("A", "1-1"))
    lab.show(lab.application("A", "1-2"))
    assert lab.device("A").recorder == ["plug 1-1", "plug 1-2"]
    lab.show()
    assert lab.device("A").recorder[-1] == "unplug"


def test_given_an_unchanged_snapshot_then_nothing_is_told_again(lab: Lab) -> None:
    board = lab.application("A", "1-1")
    lab.show(board)
    lab.show(board, lab.application("B", "1-2"))
    assert lab.device("A").recorder == ["plug 1-1"]


def test_given_a_board_that_goes_to_its_bootloader_then_its_port_says_who_it_is(
    lab: Lab,
) -> None:
    lab.show(lab.application("A", "1-1"), lab.application("B", "1-2"))
    lab.show(lab.application("B", "1-2"))
    lab.show(lab.bootloader("1-1"), lab.application("B", "1-2"))
    assert lab.device("A").recorder == ["plug 1-1", "unplug", "plug 1-1"]
    assert len(lab.made) == 2


def test_given_a_board_met_in_its_bootloader_when_it_says_its_serial_then_it_is_adopted(
    lab: Lab,
) -> None:
    lab.show(lab.bootloader("1-1"))
    assert lab.inventory.devices == {}, "what has no serial is not published"
    lab.show()
    lab.show(lab.application("A", "1-1"))
    assert len(lab.made) == 1
    assert lab.device("A") is lab.made[0]


def test_given_a_known_board_met_in_its_bootloader_elsewhere_then_the_stand_in_is_stopped(
    lab: Lab,
) -> None:
    lab.show(lab.application("A", "1-1"))
    lab.show()
    lab.show(lab.bootloader("1-2"))
    stand_in = lab.made[1]
    lab.show(lab.application("A", "1-2"))
    assert lab.device("A") is lab.made[0]
    assert lab.device("A").board is not None
    assert stand_in.stopped, "it would stay for ever"
    assert not lab.made[0].stopped


def test_given_another_board_at_the_port_then_the_first_is_unplugged(lab: Lab) -> None:
    lab.show(lab.application("A", "1-1"))
    lab.show(lab.application("B", "1-1"))
    assert lab.device("A").recorder == ["plug 1-1", "unplug"]
    assert lab.device("B").recorder == ["plug 1-1"]


def test_given_a_moved_board_and_another_in_its_bootloader_at_its_old_port_then_they_differ(
    lab: Lab,
) -> None:
    lab.show(lab.application("A", "1-1"))
    lab.show(lab.bootloader("1-1"), lab.application("A", "1-2"))
    board = lab.device("A").board
    assert board is not None
    assert board.path == "1-2"
    assert [device.serial for device in lab.made] == ["A", None]
    lab.show(lab.bootloader("1-1"))
    assert lab.device("A").board is None


def test_given_two_boards_that_swap_ports_then_each_stays_itself(lab: Lab) -> None:
    lab.show(lab.application("A", "1-1"), lab.application("B", "1-2"))
    lab.show(lab.application("B", "1-1"), lab.application("A", "1-2"))
    assert lab.device("A").recorder == ["plug 1-1", "plug 1-2"]
    assert lab.device("B").recorder == ["plug 1-2", "plug 1-1"]


def test_given_two_boards_of_one_serial_then_it_is_contested_until_one_goes(lab: Lab) -> None:
    first, second = lab.application("A", "1-1"), lab.application("A", "1-2")
    lab.show(first)
    lab.show(first, second)
    assert "2 boards" in lab.device("A").conflict
    lab.show(second)
    assert lab.device("A").recorder == ["plug 1-1", "conflict", "plug 1-2", "no conflict"]


def test_given_two_boards_of_one_serial_when_both_go_then_the_conflict_is_over(lab: Lab) -> None:
    lab.show(lab.application("A", "1-1"), lab.application("A", "1-2"))
    lab.show()
    assert lab.device("A").recorder == ["conflict", "no conflict"]


def test_given_ports_of_one_name_in_two_racks_then_they_are_two_ports(lab: Lab) -> None:
    lab.show(lab.application("A", "1-1", "rack1"), lab.application("B", "1-1", "rack2"))
    assert lab.device("A").recorder == lab.device("B").recorder == ["plug 1-1"]


def test_given_a_stop_then_every_device_is_stopped(lab: Lab) -> None:
    lab.show(lab.application("A", "1-1"), lab.bootloader("1-2"))
    lab.inventory.stop()
    assert all(device.stopped for device in lab.made)


PLACES = ["1-1", "1-2", "1-3"]
KINDS_OF_BOARD = st.sampled_from(["none", "boot", "A", "B", "C", "boot C"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(*[KINDS_OF_BOARD] * 3), max_size=8))
def test_given_any_snapshots_then_every_device_is_plugged_where_its_board_is_and_nowhere_else(
    snapshots: list[tuple[str, ...]],
) -> None:
    lab = Lab()
    for kinds in snapshots:
        boards = []
        for path, kind in zip(PLACES, kinds, strict=True):
            if kind == "boot":
                boards.append(lab.bootloader(path))
            elif kind == "boot C":
                boards.append(lab.bootloader(path, "C"))
            elif kind != "none":
                boards.append(lab.application(kind, path))
        lab.show(*boards)
        check(lab, boards)


def check(lab: Lab, boards: list[ConnectedBoard]) -> None:
    serials = [board.serial for board in boards]
    alive = [device for device in lab.made if not device.stopped]
    for device in alive:
        mine = serials.count(device.serial) if device.serial is not None else 0
        assert bool(device.conflict) == (mine > 1), device.serial
        if mine == 1:
            assert device.board == boards[serials.index(device.serial)]
    # What nobody contests is owned by exactly one device.
    owners: dict[Any, list[str]] = {}
    for device in alive:
        if device.board is not None and not device.conflict:
            owners.setdefault(device.board, []).append(device.name)
    certain = {board for board in boards if serials.count(board.serial) == 1 or not board.serial}
    assert set(owners) == certain
    assert all(len(names) == 1 for names in owners.values()), owners
    assert set(lab.inventory.devices) == {d.serial for d in lab.made if d.serial is not None}
