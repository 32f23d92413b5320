"""Which state of a device comes next, without a board, a port or a loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import Mode
from icebus.schemas.devices import Desired, DeviceState
from icebus.worker.device import recovery
from icebus.worker.device.commands import Command
from icebus.worker.device.next_state import DeviceFacts, NextState, Transition
from icebus.worker.firmware import Firmware, FirmwarePolicy, Probe, ProbedBoard, installed_firmware
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.states import Hold, core, reservable
from icebus.worker.states.core import Absent, Broken, Flashing, Quarantined, Ready, Rebooting
from icebus.worker.states.kinds.pulsecount import PulseCount

COUNTING = {"reservation": "r1", "user": "alice", "kind": "pulsecount"}


def board(virtual: bool = True, bootloader: bool = False) -> ConnectedBoard:
    drive, tty = (Path("/drive"), None) if bootloader else (None, Path("/tty"))
    mode = Mode.BOOTLOADER if bootloader else Mode.APPLICATION
    return ConnectedBoard("1-1.1", "s1", Chip.RP2040, "S1", tty, drive, virtual, mode)


def facts(
    plugged: ConnectedBoard | None = None, firmware: str = "pulse_count", **desired: Any
) -> DeviceFacts:
    wanted = Desired(serial="S1", generation=1, **desired) if desired else None
    return DeviceFacts("S1", plugged, wanted, firmware)


WELL = board()


def next_state() -> NextState:
    return NextState({"pulsecount": PulseCount}, installed_firmware(), check_every=60.0)


@pytest.mark.parametrize(
    ("known", "state"),
    [
        pytest.param(facts(WELL), Ready, id="nothing is desired yet"),
        pytest.param(facts(WELL, **COUNTING), PulseCount, id="reserved"),
        pytest.param(facts(WELL, "default", **COUNTING), Flashing, id="runs something else"),
        pytest.param(facts(WELL, quarantined="smoke"), Quarantined, id="quarantined"),
        pytest.param(facts(WELL, **{**COUNTING, "kind": "nosuch"}), Broken, id="no such kind"),
        pytest.param(facts(WELL, **COUNTING, args={"odd": 1}), Broken, id="odd arguments"),
        pytest.param(
            facts(board(virtual=False), "default", **COUNTING), Broken, id="no image for the board"
        ),
    ],
)
def test_given_a_healthy_board_then_it_becomes_what_is_desired(
    known: DeviceFacts, state: type[object]
) -> None:
    assert type(next_state().idle(known).state) is state


class Bare(Firmware):
    """Brings no image for a real board."""

    name = "bare"

    def test(self, board: ProbedBoard) -> Probe:
        """Not needed here."""
        raise NotImplementedError


class Imaged(Bare):
    """Brings one."""

    name = "imaged"

    def uf2(self, chip: Chip) -> bytes:
        """Whatever the chip."""
        return b"image"


@reservable("pulsecount", firmware=("unknown", "bare", "imaged"))
class Either(PulseCount):
    """May run on either."""


EITHER = NextState({"pulsecount": Either}, {"bare": Bare(), "imaged": Imaged()}, check_every=60.0)


@pytest.mark.parametrize("firmware", ["bare", "imaged"])
def test_given_a_board_that_runs_any_firmware_of_its_kind_then_it_serves_without_a_flash(
    firmware: str,
) -> None:
    known = facts(board(virtual=False), firmware, **COUNTING)
    assert isinstance(EITHER.idle(known).state, Either)


@pytest.mark.parametrize(
    ("virtual", "given_firmware"),
    [
        pytest.param(False, "imaged", id="real"),
        pytest.param(True, "bare", id="virtual"),
    ],
)
def test_given_a_board_that_runs_none_of_them_then_it_is_flashed_with_the_first_that_has_an_image(
    virtual: bool, given_firmware: str
) -> None:
    flashing = EITHER.idle(facts(board(virtual), "default", **COUNTING)).state
    assert isinstance(flashing, Flashing)
    assert flashing.firmware == given_firmware


def test_when_an_administrator_has_it_reflashed_then_it_keeps_the_firmware_that_it_runs() -> None:
    known = facts(board(), "imaged", **COUNTING)
    flashing = EITHER.commanded(known, Command.REFLASH).state
    assert isinstance(flashing, Flashing)
    assert flashing.firmware == "imaged"


REVIVED: dict[str, Callable[[NextState, DeviceFacts], Transition]] = {
    "plugged": lambda decide, known: decide.plugged(known),
    "looked at again": lambda decide, known: decide.look_again(known),
}


@pytest.mark.parametrize("meet", REVIVED.values(), ids=REVIVED)
def test_given_a_board_in_its_bootloader_then_it_is_given_whatever_there_is_an_image_of(
    meet: Callable[[NextState, DeviceFacts], Transition],
) -> None:
    known = facts(board(virtual=False, bootloader=True), "")
    flashing = meet(EITHER, known).state
    assert isinstance(flashing, Flashing)
    assert flashing.firmware == "imaged"


@pytest.mark.parametrize("meet", REVIVED.values(), ids=REVIVED)
def test_given_a_board_in_its_bootloader_and_no_image_then_it_is_asked_to_start_what_it_has(
    meet: Callable[[NextState, DeviceFacts], Transition],
) -> None:
    decide = NextState({"pulsecount": Either}, {"bare": Bare()}, check_every=60.0)
    known = facts(board(virtual=False, bootloader=True), "")
    assert isinstance(meet(decide, known).state, Rebooting)
    # It does not help, and neither do the steps of its recovery: that ends.
    first, second = (decide.failed(known, "came back in its bootloader") for _ in range(2))
    assert isinstance(first.state, Rebooting)
    assert isinstance(second.state, Broken)
    assert "is installed" in second.state.reason


class Versioned(Imaged):
    """Says which version its image has."""

    version = "1.2.0"

    def image_version(self, board: ConnectedBoard) -> str:
        """Always the same."""
        return self.version


@reservable("pulsecount", firmware=("imaged", "bare"))
class Preferring(PulseCount):
    """Prefers one of two."""


def deciding(policy: FirmwarePolicy) -> NextState:
    firmware = {"bare": Bare(), "imaged": Versioned()}
    return NextState({"pulsecount": Preferring}, firmware, 60.0, policy)


@pytest.mark.parametrize(
    ("firmware", "version", "upgraded"),
    [
        pytest.param("bare", "", True, id="another than preferred"),
        pytest.param("imaged", "1.1.9", True, id="older"),
        pytest.param("imaged", "1.2.0", False, id="the same"),
        pytest.param("imaged", "1.10.0", False, id="newer"),
        pytest.param("elsewhere", "", False, id="of no kind"),
    ],
)
@pytest.mark.parametrize("wanted", [{}, COUNTING], ids=["idle", "reserved"])
def test_given_the_policy_to_upgrade_then_only_what_could_be_newer_is_flashed_and_only_once(
    firmware: str, version: str, upgraded: bool, wanted: dict[str, str]
) -> None:
    decide = deciding(FirmwarePolicy.UPGRADE)
    known = replace(facts(board(), firmware, **wanted), firmware_version=version)
    first = decide.idle(known).state
    assert ("upgrading" in first.reason) is upgraded
    if upgraded:
        assert isinstance(first, Flashing)
        assert first.firmware == "imaged"
        assert "upgrading" not in decide.idle(known).state.reason


@pytest.mark.parametrize(("firmware", "version"), [("bare", ""), ("imaged", "1.1.9")])
def test_given_the_policy_to_keep_then_what_serves_is_used_as_it_is(
    firmware: str, version: str
) -> None:
    decide = deciding(FirmwarePolicy.KEEP)
    known = replace(facts(board(), firmware, **COUNTING), firmware_version=version)
    assert isinstance(decide.idle(known).state, Preferring)


def test_given_a_board_that_serves_when_released_then_it_is_upgraded_before_the_next() -> None:
    decide = deciding(FirmwarePolicy.UPGRADE)
    decide.reached(Preferring(Hold("r1", "alice"), PulseCount.Args()))
    assert isinstance(decide.idle(facts(board(), "bare")).state, Ready)
    decide.reached(Ready("bare", 0))
    assert isinstance(decide.idle(facts(board(), "bare", **COUNTING)).state, Flashing)


LOOKS: dict[str, Callable[[NextState, DeviceFacts], Transition]] = {
    "failed": lambda decide, known: decide.failed(known, "it babbles"),
    "unrecognised": lambda decide, known: decide.unrecognised(known),
    "looked at again": lambda decide, known: decide.look_again(known),
    "commanded": lambda decide, known: decide.commanded(known, Command.REFLASH),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_given_no_board_then_it_is_absent_whatever_is_to_be_done(
    look: Callable[[NextState, DeviceFacts], Transition],
) -> None:
    assert isinstance(look(next_state(), facts(None)).state, Absent)


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_given_any_failures_in_a_row_then_each_is_told_and_flash_is_written_once(
    in_bootloader: list[bool],
) -> None:
    device = next_state()
    states = [
        device.failed(facts(board(bootloader=where)), "it babbles").state for where in in_bootloader
    ]
    assert sum(isinstance(state, Flashing) for state in states) <= 1, "flash wears"
    assert not [
        n for n, where in enumerate(in_bootloader) if where and isinstance(states[n], core.Testing)
    ]
    for number, state in enumerate(states, 1):
        assert state.reason.startswith("it babbles; ")
        assert f"({recovery.ordinal(number)} " in state.reason


def test_given_failures_when_all_is_well_again_then_its_recovery_begins_anew() -> None:
    device = next_state()
    first = device.failed(facts(WELL), "it babbles").state
    device.failed(facts(WELL), "it babbles")
    device.reached(Ready("pulse_count", 0))
    again = device.failed(facts(WELL), "it babbles").state
    assert (type(again), again.reason) == (type(first), first.reason)


def test_given_failures_when_the_board_is_only_tested_then_they_are_remembered() -> None:
    device = next_state()
    device.reached(device.failed(facts(WELL), "it babbles").state)
    assert isinstance(device.failed(facts(WELL), "it babbles").state, Rebooting)


def test_given_a_board_that_never_said_what_it_runs_then_it_is_given_firmware_at_once() -> None:
    assert isinstance(next_state().unrecognised(facts(WELL, "")).state, Flashing)
    assert isinstance(next_state().unrecognised(facts(WELL, "pulse_count")).state, core.Testing)


@pytest.mark.parametrize("command", list(Command))
@pytest.mark.parametrize("wanted", [{}, COUNTING])
def test_given_work_on_a_board_then_it_appears_as_preparing_when_it_is_for_a_reservation(
    command: Command, wanted: dict[str, Any]
) -> None:
    move = next_state().commanded(facts(WELL, **wanted), command)
    if wanted:
        assert move.state.reported is DeviceState.PREPARING
    else:
        assert move.state.reported in (DeviceState.TESTING, DeviceState.FLASHING)
    assert "an administrator asked" in move.why.message
    told = next_state().commanded(facts(WELL, **wanted, asked_by="alice"), command).why
    assert f"alice asked for a {command}" in told.message
