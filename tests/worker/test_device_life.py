"""A device may meet anything, in any order: it is never stranded, and never serves the wrong one.

The device is the real one, its loop and the hardware edge are models in virtual time: a board that
may be dead, babble, refuse to be opened or flashed, come, go, and be shown twice.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import json
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.boards.firmware import Chip, read_marker
from icebus.schemas.boards.rack import Mode
from icebus.schemas.boards.uf2 import decode
from icebus.schemas.devices import Desired, DeviceReport, DeviceState
from icebus.schemas.errors import IcebusError
from icebus.schemas.files import File
from icebus.worker.device import actor, board_port, next_state, recovery
from icebus.worker.device.device import Device
from icebus.worker.device.helper_threads import MOST_AT_ONCE
from icebus.worker.device.lifecycle import may_follow
from icebus.worker.hardware import flashing
from icebus.worker.hardware import port as ports
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.hardware.bootloaders.bootloader import (
    BootloaderFailed,
    BootloaderUnreachable,
    StepLimit,
)
from icebus.worker.installed import Installed
from icebus.worker.loop import Loop, Timer
from icebus.worker.states import Hold
from icebus.worker.states.core import broken
from icebus.worker.states.kinds.pulsecount import PulseCount

S = DeviceState
PATH = "1-1.1"

SET_ASIDE = recovery.REST_LONGEST + 1
"""Less than an hour, for every second of virtual time is played."""

LONG = SET_ASIDE + 300
"""The longest that a board which is well again may wait to be looked at, and to be made ready."""


class Hangs(BaseException):
    """A call of the driver that does not return."""


R1: dict[str, Any] = {"reservation": "r1", "user": "alice", "kind": "pulsecount"}
R2 = {**R1, "reservation": "r2"}
ODD_KIND = {**R1, "kind": "nosuch"}
ODD_ARGS = {**R1, "args": {"misspelt": 1}}


class FakeLoop:
    """A loop in virtual time, run by the test; what a step raises fails the test."""

    def __init__(self) -> None:
        self.now = 0.0
        self._inbox: deque[Callable[[], None]] = deque()
        self._due: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self.hanging: list[Callable[[], None]] = []

    def post(self, callback: Callable[[], None]) -> None:
        self._inbox.append(callback)

    def offload(self, work: Callable[[], None], name: str) -> None:
        try:
            work()  # as if the helper had ended before anybody could wait for it
        except Hangs:
            self.hanging.append(work)
            assert len(self.hanging) <= MOST_AT_ONCE, "threads are used up"

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._due, (self.now + seconds, next(self._order), timer))
        return timer

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            while self._inbox:
                self._inbox.popleft()()
            if not self._due or self._due[0][0] > until:
                break
            self.now, _, timer = heapq.heappop(self._due)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
        self.now = until


class Lab:
    """The board and everything around it."""

    def __init__(self) -> None:
        self.loop: FakeLoop | None = None
        self.firmware = "default"
        self.erased = False
        self.health = "well"
        self.mode = "absent"
        self.problem = ""
        self.port: FakePort | None = None
        self.session = 0
        self.reboots = 0
        self.flashes = 0
        self.device: Device | None = None

    def change(self, health: str) -> None:
        """Its health changes; what hung in its driver may go on."""
        self.health = health
        assert self.loop is not None
        hanging, self.loop.hanging = self.loop.hanging, []
        for work in hanging:
            self.loop.offload(work, "again")

    def enumerate(self, mode: str) -> None:
        """The board appears on the bus, or goes from it."""
        assert self.device is not None
        if mode == "application" and self.erased:
            mode = "bootloader"  # which is in ROM
        if self.port is not None:
            self.port.hang_up()
        self.mode = mode
        self.session += 1
        if mode == "absent":
            self.device.unplug()
            return
        self.show()

    def set_problem(self, problem: str) -> None:
        """The rights to the port change, or whatever keeps the worker from it."""
        self.problem = problem
        if self.mode != "absent":
            self.show()

    def show(self) -> None:
        """Tell the device how its board is plugged."""
        assert self.device is not None
        application = self.mode == "application"
        self.device.plug(
            ConnectedBoard(
                PATH,
                f"s{self.session}",
                Chip.RP2040,
                "S1" if application else None,
                Path("/tty") if application else None,
                None if application else Path("/drive"),
                True,
                Mode(self.mode),
                problem=self.problem if application else "",
            )
        )

    def connect(self, _path: Path) -> mock.Mock:
        if self.health == "stuck":
            raise Hangs
        if self.mode != "application" or self.health == "shut" or self.problem:
            raise OSError(5, "Input/output error")
        return mock.Mock()

    def reboot(self, _board: ConnectedBoard, _limit: StepLimit) -> None:
        if self.mode != "bootloader":
            raise FileNotFoundError(2, "gone")
        if self.health == "unreachable":
            raise BootloaderUnreachable("nothing leads there")
        self.reboots += 1
        self.later(0.1, "absent", "bootloader" if self.health == "unbootable" else "application")

    def touch(self, _tty: Path) -> None:
        if self.health == "stuck":
            raise Hangs
        if self.mode != "application" or self.problem:
            raise FileNotFoundError(2, "gone")
        if self.health != "untouchable":
            self.later(0.1, "absent", "bootloader")

    def flash(self, image: bytes, _board: ConnectedBoard, _limit: StepLimit) -> None:
        if self.mode != "bootloader":
            raise FileNotFoundError(2, "gone")
        if self.health == "unreachable":
            raise BootloaderUnreachable("nothing leads there")
        if self.health == "worn":
            self.erased = True
            raise BootloaderFailed("refused WRITE: UNKNOWN_ERROR")
        if self.health == "dying":  # the plug is pulled in the middle
            self.erased = True
            self.later(0, "absent")
            raise OSError(errno.ENODEV, "it has left the bus")
        if self.health != "unflashable":
            marker = read_marker(decode(image).payload)
            assert marker is not None
            self.firmware = marker.name
            self.flashes += 1
            self.erased = False
            back = "bootloader" if self.health == "unbootable" else "application"
            self.later(0.1, "absent", back)

    def later(self, seconds: float, *modes: str) -> None:
        assert self.loop is not None
        session = self.session

        def go() -> None:
            if self.session == session:  # nobody has pulled the plug meanwhile
                self.enumerate(modes[0])
                if modes[1:]:
                    self.later(seconds, *modes[1:])

        self.loop.call_later(seconds, go)


class FakePort:
    """A port to the lab's board, which answers as its firmware and health let it."""

    lab: Lab

    def __init__(
        self,
        loop: FakeLoop,
        connection: mock.Mock,
        on_data: Callable[[bytes], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._on_data = on_data
        self._on_lost = on_lost
        self._open = True
        self.sending = False
        self.lab.port = self
        if self.lab.mode != "application":
            self.hang_up()
        self._chatter()

    def _chatter(self) -> None:
        if self._open:
            if self.lab.health == "babbling":
                self._on_data(b"babble babble\r\n")
            elif self.lab.firmware == "default" and self.lab.health != "dead":
                self._on_data(f"{text.DEFAULT_LINE}\r\n".encode())
        if self._open:
            self._loop.call_later(1.0, self._chatter)

    def send(self, data: bytes) -> None:
        assert self._open
        assert not self.sending, "sent into a transfer"
        if self.lab.firmware != "pulse_count" or self.lab.health in ("dead", "babbling"):
            return
        started = [text.STARTED, text.RECEIVING]
        if self.lab.health == "barking":
            watchdog = text.WATCHDOG.format(received=5, size=len(data))
            self._say(2.0, *started, watchdog, text.WAITING)
            return
        self._say(0.1, *started, text.RECEIVED.format(us=1))
        report = [text.FLASH_TIMES_PREFIX, text.PULSES.format(pulses=data[0]), text.IDLE]
        self._say(1.1, *report, text.CONNECTED, text.WAITING)

    def _say(self, seconds: float, *lines: str) -> None:
        def say() -> None:
            if self._open:
                self._on_data("".join(f"{line}\r\n" for line in lines).encode())

        self._loop.call_later(seconds, say)

    def discard(self) -> None: ...

    def close(self) -> None:
        self._open = False

    def hang_up(self) -> None:
        self.lab.port = None
        if self._open:
            self._open = False
            self._loop.post(lambda: self._on_lost("hung up"))


class Recorder:
    def __init__(self) -> None:
        self.reports: list[DeviceReport] = []
        self.outcomes: dict[str, list[str]] = {}

    def report(self, report: DeviceReport) -> None:
        self.reports.append(report)

    def emit(self, hold: Hold, serial: str, event: str, sequence: int, data: str) -> None:
        if event in ("results", "failures"):
            self.outcomes.setdefault(json.loads(data)["evaluation"], []).append(event)


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.lab = Lab()
        self.recorder = Recorder()
        self.directory = tempfile.TemporaryDirectory()
        port = type("LabPort", (FakePort,), {"lab": self.lab})
        self.patches = ExitStack()
        for module, name, model in (
            (board_port, "Port", port),
            (ports, "connect", self.lab.connect),
            (flashing, "reboot", self.lab.reboot),
            (recovery, "SET_ASIDE", SET_ASIDE),
            (next_state, "RECOVERY", ("default",)),  # the lab's board knows text firmware only
            (PulseCount, "firmware", ("pulse_count",)),
            (flashing, "touch", self.lab.touch),
            (flashing, "flash", self.lab.flash),
        ):
            self.patches.enter_context(mock.patch.object(module, name, model))
        self.loop = self.lab.loop = FakeLoop()
        self.device = Device(
            cast(Loop, self.loop),
            "S1",
            PATH,
            Installed.load(),
            self.recorder,
            "session",
            Path(self.directory.name),
        )
        self.lab.device = self.device
        self.generation = 0
        self.reboot = self.reflash = 0
        self.clock = datetime(2026, 1, 1, tzinfo=UTC)
        for module in (actor, broken):
            self.patches.enter_context(mock.patch.object(module, "now", self.wall_clock))
        self.desired = Desired(serial="S1", generation=0)
        self.conflict = False
        self.accepted: set[str] = set()
        self.seen = 0

    def wall_clock(self) -> datetime:
        return self.clock

    # --- what may happen ------------------------------------------------------------------------

    @rule(firmware=st.sampled_from(["default", "pulse_count"]))
    @precondition(lambda self: self.lab.mode == "absent" and not self.conflict)
    def plug(self, firmware: str) -> None:
        self.lab.firmware = firmware
        self.lab.erased = False
        self.lab.enumerate("application")
        self.loop.run(0)

    @rule()
    @precondition(lambda self: self.lab.mode != "absent")
    def unplug(self) -> None:
        self.lab.enumerate("absent")
        self.loop.run(0)

    @rule(mode=st.sampled_from(["application", "bootloader"]))
    @precondition(lambda self: self.lab.mode != "absent" and not self.conflict)
    def reset_by_hand(self, mode: str) -> None:
        self.lab.enumerate(mode)
        self.loop.run(0)

    @rule()
    @precondition(lambda self: self.lab.port is not None)
    def port_fails(self) -> None:
        assert self.lab.port is not None
        self.lab.port.hang_up()
        self.loop.run(0)

    @rule(
        health=st.sampled_from(
            [
                *("well", "well", "dead", "babbling", "barking", "shut", "stuck"),
                *("untouchable", "unflashable", "unbootable"),
                *("unreachable", "worn", "dying"),
            ]
        )
    )
    def health_changes(self, health: str) -> None:
        self.lab.change(health)
        self.loop.run(0)

    @rule(problem=st.sampled_from(["", "no right to open its port", "no serial port"]))
    def rights_change(self, problem: str) -> None:
        self.lab.set_problem(problem)
        self.loop.run(0)

    @rule()
    def twins(self) -> None:
        self.conflict = not self.conflict
        self.device.set_conflict("2 boards show the serial S1" if self.conflict else "")
        self.loop.run(0)

    @rule(wanted=st.sampled_from([None, R1, R1, R2, ODD_KIND, ODD_ARGS, {"quarantined": "smoke"}]))
    def desire(self, wanted: dict[str, Any] | None) -> None:
        self.generation += 1
        nonces = {"reboot": self.reboot, "reflash": self.reflash}
        fields = {"serial": "S1", "generation": self.generation, **nonces, **(wanted or {})}
        self.desired = Desired.model_validate(fields)
        self.device.desire(self.desired)
        self.loop.run(0)

    @rule(command=st.sampled_from(["reboot", "reflash"]))
    def command(self, command: str) -> None:
        setattr(self, command, getattr(self, command) + 1)
        kept = self.desired.model_dump(exclude={"serial", "generation", "reboot", "reflash"})
        self.desire({name: value for name, value in kept.items() if value})

    @rule(jump=st.sampled_from([-86400.0, 86400.0, 3e8]))
    def wall_clock_jumps(self, jump: float) -> None:
        self.clock += timedelta(seconds=jump)

    @rule()
    def all_is_well_for_a_while(self) -> None:
        if self.conflict:
            self.twins()
        self.lab.set_problem("")
        self.lab.change("well")
        if self.lab.mode == "absent":
            self.lab.enumerate("application")
        self.desire(R1)
        self.loop.run(LONG)
        assert self.device.status.hold == Hold("r1", "alice"), self.recorder.reports[-3:]

    @rule(count=st.integers(1, 3))
    @precondition(lambda self: self.device.status.hold is not None)
    def evaluate(self, count: int) -> None:
        hold = self.device.status.hold
        assert hold is not None
        files = [
            File.model_validate({"id": f"e{len(self.accepted) + n}", "data": "AAAA"})
            for n in range(count)
        ]
        for file in files:
            blob = mock.Mock(sha256="0" * 64)
            blob.read.return_value = bytes(text.BITSTREAM_SIZE)
            object.__setattr__(file, "_blob", blob)
        with mock.patch.object(File, "blob", property(lambda self: self._blob)):
            arguments = {"bitstreams": files, "batch": None, "more": False, "validate": False}
            answer = self.device.invoke(hold, "evaluate", arguments)
            self.loop.run(0)
        try:
            answer.result(0)
        except IcebusError:
            return
        self.accepted |= {file.id for file in files}

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.3, 1.0, 3.0, 15.0, 40.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.run(seconds)

    # --- what must hold -------------------------------------------------------------------------

    @invariant()
    def only_allowed_transitions_are_told(self) -> None:
        states = [report.state for report in self.recorder.reports]
        for before, after in itertools.pairwise(states[max(0, self.seen - 1) :]):
            assert may_follow(before, after), f"{after} after {before}"
        assert not [r for r in self.recorder.reports[self.seen :] if "may not follow" in r.reason]
        self.seen = len(states)

    @invariant()
    def who_serves_is_wanted_and_fit(self) -> None:
        hold = self.device.status.hold
        if hold is not None:
            assert (hold.reservation, hold.user) == (self.desired.reservation, self.desired.user)
            assert self.desired.quarantined is None
            assert not self.conflict
            assert self.device.port is not None
            assert self.lab.firmware == "pulse_count"

    @invariant()
    def what_does_not_work_says_why(self) -> None:
        if self.recorder.reports:
            last = self.recorder.reports[-1]
            if last.state in (S.ABSENT, S.BROKEN, S.QUARANTINED):
                assert last.reason
            assert last.generation == self.desired.generation or self.device.state is None

    @invariant()
    def no_outcome_is_told_for_what_was_not_accepted(self) -> None:
        assert set(self.recorder.outcomes) <= self.accepted

    def teardown(self) -> None:
        """Whatever it was: with a board that is well again, all comes to rest within bounds."""
        try:
            if self.conflict:
                self.twins()
            self.lab.set_problem("")
            self.lab.change("well")
            if self.lab.mode == "absent":
                self.lab.enumerate("application")
            self.loop.run(LONG)
            self.only_allowed_transitions_are_told()
            self.who_serves_is_wanted_and_fit()
            assert self.recorder.reports[-1].state is self.expected, self.recorder.reports[-3:]
            if self.device.status.hold is not None:
                self.evaluate(1)
                self.loop.run(5)
            assert set(self.recorder.outcomes) == self.accepted
            for outcomes in self.recorder.outcomes.values():
                assert len(set(outcomes)) == 1, "one outcome, however often it is told"
        finally:
            self.device.stop()
            self.loop.run(0)
            self.patches.close()
            self.directory.cleanup()

    @property
    def expected(self) -> DeviceState:
        if self.desired.quarantined is not None:
            return S.QUARANTINED
        if self.desired.reservation is None:
            return S.READY
        served = self.desired.kind == "pulsecount" and not self.desired.args
        return S.SERVING if served else S.BROKEN


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)


def test_given_two_boards_of_one_serial_when_one_leaves_its_bootloader_then_it_serves_nobody() -> (
    None
):
    life = Life()
    life.all_is_well_for_a_while()
    life.reset_by_hand("bootloader")
    life.twins()
    life.time_passes(40.0)
    life.who_serves_is_wanted_and_fit()
    life.teardown()


@pytest.fixture(name="life")
def life_fixture() -> Iterator[Life]:
    """One whose patches end with the test, also if that fails."""
    life = Life()
    yield life
    life.patches.close()


@pytest.mark.parametrize(
    ("health", "told"),
    [
        ("untouchable", "did not go to its bootloader"),
        ("unreachable", "its bootloader can't be reached: nothing leads there"),
        ("worn", "its bootloader: refused WRITE: UNKNOWN_ERROR"),
        ("dying", "did not come back from its bootloader"),
        ("unflashable", "did not come back from its bootloader"),
        ("unbootable", "came back in its bootloader"),
    ],
)
def test_given_a_board_that_fails_while_it_is_flashed_then_it_says_so_and_serves_once_it_is_well(
    life: Life, health: str, told: str
) -> None:
    life.all_is_well_for_a_while()
    life.lab.change(health)
    life.command("reflash")
    life.time_passes(200.0)
    assert any(told in report.reason for report in life.recorder.reports)

    life.all_is_well_for_a_while()
    assert not life.lab.erased
    life.teardown()


def test_given_a_worker_that_died_while_it_flashed_then_the_next_one_flashes_again(
    life: Life,
) -> None:
    life.lab.erased = True
    life.lab.enumerate("application")  # as far as its plug is concerned
    assert life.lab.mode == "bootloader"
    life.desire(R1)
    life.time_passes(200.0)
    assert not life.lab.erased
    assert life.recorder.reports[-1].state is S.SERVING
    life.teardown()
