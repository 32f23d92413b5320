"""Which state of a device comes next, without a board, a port or a loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.devices import Desired, DeviceState
from icebus.worker.device import recovery as ladder
from icebus.worker.device.commands import Command
from icebus.worker.device.facts import Facts
from icebus.worker.device.next_state import Course, Move
from icebus.worker.hardware.board import Board
from icebus.worker.states import core
from icebus.worker.states.core import Absent, Broken, Flashing, Quarantined, Ready, Rebooting
from icebus.worker.states.kinds.pulsecount import PulseCount

COUNTING = {"reservation": "r1", "user": "alice", "kind": "pulsecount"}


def board(virtual: bool = True, bootloader: bool = False) -> Board:
    drive, tty = (Path("/drive"), None) if bootloader else (None, Path("/tty"))
    return Board("1-1.1", "s1", Chip.RP2040, "S1", tty, drive, virtual)


def facts(plugged: Board | None = None, firmware: str = "pulse_count", **desired: Any) -> Facts:
    wanted = Desired(serial="S1", generation=1, **desired) if desired else None
    return Facts("S1", plugged, wanted, firmware)


WELL = board()


def course() -> Course:
    return Course({"pulsecount": PulseCount}, probe_every=60.0)


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
    known: Facts, state: type[object]
) -> None:
    assert type(course().settle(known).state) is state


LOOKS: dict[str, Callable[[Course, Facts], Move]] = {
    "failed": lambda course, known: course.fail(known, "it babbles"),
    "unrecognised": lambda course, known: course.fail_unrecognised(known),
    "looked at again": lambda course, known: course.retry(known),
    "commanded": lambda course, known: course.obey(known, Command.REFLASH),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_given_no_board_then_it_is_absent_whatever_is_to_be_done(
    look: Callable[[Course, Facts], Move],
) -> None:
    assert isinstance(look(course(), facts(None)).state, Absent)


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_given_any_failures_in_a_row_then_each_is_told_and_flash_is_written_once(
    in_bootloader: list[bool],
) -> None:
    device = course()
    states = [
        device.fail(facts(board(bootloader=where)), "it babbles").state for where in in_bootloader
    ]
    assert sum(isinstance(state, Flashing) for state in states) <= 1, "flash wears"
    assert not [
        n for n, where in enumerate(in_bootloader) if where and isinstance(states[n], core.Testing)
    ]
    for number, state in enumerate(states, 1):
        assert state.reason.startswith("it babbles; ")
        assert f"({ladder.ordinal(number)} " in state.reason


def test_given_failures_when_all_is_well_again_then_the_ladder_begins_anew() -> None:
    device = course()
    first = device.fail(facts(WELL), "it babbles").state
    device.fail(facts(WELL), "it babbles")
    device.reached(Ready("pulse_count", 0))
    again = device.fail(facts(WELL), "it babbles").state
    assert (type(again), again.reason) == (type(first), first.reason)


def test_given_failures_when_the_board_is_only_tested_then_they_are_remembered() -> None:
    device = course()
    device.reached(device.fail(facts(WELL), "it babbles").state)
    assert isinstance(device.fail(facts(WELL), "it babbles").state, Rebooting)


def test_given_a_board_that_never_said_what_it_runs_then_it_is_given_firmware_at_once() -> None:
    assert isinstance(course().fail_unrecognised(facts(WELL, "")).state, Flashing)
    assert isinstance(course().fail_unrecognised(facts(WELL, "pulse_count")).state, core.Testing)


@pytest.mark.parametrize("command", list(Command))
@pytest.mark.parametrize("wanted", [{}, COUNTING])
def test_given_work_on_a_board_then_it_appears_as_preparing_when_it_is_for_a_reservation(
    command: Command, wanted: dict[str, Any]
) -> None:
    move = course().obey(facts(WELL, **wanted), command)
    if wanted:
        assert move.state.reported is DeviceState.PREPARING
    else:
        assert move.state.reported in (DeviceState.TESTING, DeviceState.FLASHING)
    assert "an administrator asked" in move.why.message
