"""The life cycle as it is drawn: every arrow can happen, and nothing else can.

Each state is driven with each thing that may happen to it, whatever is plugged, desired and known,
however often the device has failed before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import Mode
from icebus.schemas.devices import Desired, DeviceState
from icebus.worker.device import lifecycle, recovery
from icebus.worker.device.commands import Command
from icebus.worker.device.next_state import DeviceFacts, NextState, Transition
from icebus.worker.firmware import installed_firmware
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.states import core, installed_kinds

S = DeviceState
Happening = Callable[[NextState, DeviceFacts], Transition]

FAILURES = [recovery.failures_of(remedy) - 1 for remedy in recovery.Remedy]
"""In a row before: the next is answered by each step of recovery."""

HELD = {"reservation": "r1", "user": "alice", "kind": "pulsecount"}
DESIRED: list[dict[str, Any]] = [
    {},
    {"quarantined": "smoke"},
    HELD,
    {**HELD, "quarantined": "smoke"},
    {**HELD, "kind": "nosuch"},
    {**HELD, "args": {"odd": 1}},
]

# --- what may happen ------------------------------------------------------------------------------

LOST: Happening = lambda decide, facts: decide.lost(facts, "unplugged")  # noqa: E731
FAILED: Happening = lambda decide, facts: decide.failed(facts, "it babbles")  # noqa: E731
CONFLICT: Happening = lambda decide, facts: decide.refuse(facts, "2 boards")  # noqa: E731
FOUND: Happening = lambda decide, facts: decide.found(facts)  # noqa: E731
IDLE: Happening = lambda decide, facts: decide.idle(facts)  # noqa: E731
LOOK_AGAIN: Happening = lambda decide, facts: decide.look_again(facts)  # noqa: E731
REBOOT: Happening = lambda decide, facts: decide.commanded(facts, Command.REBOOT)  # noqa: E731
REFLASH: Happening = lambda decide, facts: decide.commanded(facts, Command.REFLASH)  # noqa: E731


def checked(decide: NextState, facts: DeviceFacts) -> Transition:
    """Reserved while a check that can't be taken over is under way."""
    check: Any = SimpleNamespace(meter=None)
    return decide.idle(facts, check)


COMMANDS = [REBOOT, REFLASH]
ALWAYS = [LOST, FAILED, CONFLICT]

HAPPENINGS: dict[DeviceState, list[Happening]] = {
    S.ABSENT: [*ALWAYS, FOUND, LOOK_AGAIN],
    S.TESTING: [*ALWAYS, FOUND, IDLE, *COMMANDS, lambda d, facts: d.unrecognised(facts)],
    S.FLASHING: [*ALWAYS, lambda decide, facts: decide.found(facts, "pulse_count")],
    S.READY: [*ALWAYS, IDLE, *COMMANDS, checked],
    S.SERVING: [*ALWAYS, IDLE, *COMMANDS, lambda d, facts: d.released_while_busy(facts)],
    S.RELEASING: [*ALWAYS, IDLE, *COMMANDS],
    S.BROKEN: [*ALWAYS, LOOK_AGAIN, *COMMANDS],
    S.QUARANTINED: [*ALWAYS, LOOK_AGAIN, *COMMANDS],
}
HAPPENINGS[S.PREPARING] = [*HAPPENINGS[S.TESTING], *HAPPENINGS[S.FLASHING]]

QUARANTINED_ONLY: Happening = IDLE
"""What rests may be set aside by an administrator, with another reason, too."""


# --- in which circumstances -----------------------------------------------------------------------


def boards() -> Iterator[ConnectedBoard | None]:
    yield None
    for mode, tty, drive in (
        (Mode.APPLICATION, Path("/tty"), None),
        (Mode.BOOTLOADER, None, Path("/drive")),
    ):
        for virtual in (True, False):
            yield ConnectedBoard("1-1", "s1", Chip.RP2040, "S1", tty, drive, virtual, mode)


def circumstances() -> Iterator[DeviceFacts]:
    for board, fields, firmware in itertools.product(
        boards(), [None, *DESIRED], ("", "default", "pulse_count")
    ):
        desired = None if fields is None else Desired(serial="S1", generation=1, **fields)
        yield DeviceFacts("S1", board, desired, firmware)


def possible(state: DeviceState, facts: DeviceFacts, failures: int) -> bool:
    """Whether a device that reports ``state`` may find itself in these circumstances."""
    held = facts.desired is not None and facts.desired.reservation is not None
    if state in lifecycle.HEALTHY and failures:
        return False
    if state in (S.TESTING, S.FLASHING):
        return not held  # or it would report that it prepares
    return state is not S.READY or bool(facts.firmware)


def serves(facts: DeviceFacts) -> bool:
    """Whether what is desired is to go on serving."""
    return lifecycle.still_wanted(facts.desired, "r1", "alice", "pulsecount") and not (
        facts.desired is not None and facts.desired.args
    )


KINDS, FIRMWARE = installed_kinds(), installed_firmware()


def next_state(failures: int) -> NextState:
    decide = NextState(KINDS, FIRMWARE, 0)
    well = DeviceFacts("S1", next(board for board in boards() if board), None, "default")
    for _ in range(failures):
        decide.failed(well, "before")
    return decide


def arrows() -> Iterator[tuple[DeviceState, DeviceState]]:
    for state, facts, failures in itertools.product(S, circumstances(), FAILURES):
        if not possible(state, facts, failures):
            continue
        for happening in HAPPENINGS[state]:
            released_first = state is S.SERVING and not serves(facts)
            if released_first and happening in (*ALWAYS, *COMMANDS):
                continue
            yield state, happening(next_state(failures), facts).state.reported
        quarantined = facts.desired is not None and facts.desired.quarantined is not None
        if state in (S.BROKEN, S.QUARANTINED) and quarantined:
            yield state, QUARANTINED_ONLY(next_state(failures), facts).state.reported


def work_that_is_now_for_a_reservation() -> Iterator[tuple[DeviceState, DeviceState]]:
    for state in (S.TESTING, S.FLASHING):
        working = core.Testing(state)
        host: Any = SimpleNamespace(desired=Desired(serial="S1", generation=1, **HELD))
        working.device = host
        working.on_desired()
        yield state, working.reported


def test_given_all_that_may_happen_then_exactly_the_arrows_drawn_are_taken() -> None:
    taken: dict[DeviceState, set[DeviceState]] = {state: set() for state in S}
    for before, after in (*arrows(), *work_that_is_now_for_a_reservation()):
        if before is not after or before is S.SERVING:
            taken[before].add(after)
    assert taken == {state: set(after) for state, after in lifecycle.TRANSITIONS.items()}


def test_given_a_device_of_which_nothing_is_known_then_it_begins_as_drawn() -> None:
    begun = {
        happening(next_state(0), facts).state.reported
        for facts in circumstances()
        for happening in (lambda decide, facts: decide.plugged(facts), CONFLICT)
        if facts.board is not None and not facts.firmware
    }
    assert begun | {S.ABSENT} == lifecycle.INITIAL
