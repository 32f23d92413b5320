"""What happens to one board, and what becomes of it: exactly one state is alive at a time.

States say what happened (``proved``, ``flashed``, ``fail``, ``lost``); which state comes next is
decided in :mod:`icebus.worker.device.next_state`, and made so here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from icebus.schemas.devices import Desired
from icebus.schemas.errors import IcebusError, JournalUnavailable, WorkerLost
from icebus.schemas.measuring import Outcome
from icebus.schemas.message import Message, now
from icebus.schemas.programs.logs import about
from icebus.worker.device import lifecycle, recovery
from icebus.worker.device.board_port import BoardPort, PortCallbacks
from icebus.worker.device.commands import Commands
from icebus.worker.device.device_report import Publisher, Reporter
from icebus.worker.device.helper_threads import PREFIX, HelperThreads
from icebus.worker.device.journal import Journal
from icebus.worker.device.next_state import DeviceFacts, NextState, Transition
from icebus.worker.device.state_runner import StateRunner
from icebus.worker.firmware import Firmware, FirmwarePolicy
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.hardware.port import Port
from icebus.worker.installed import Installed
from icebus.worker.loop import Callback, Loop, Timer
from icebus.worker.metrics.observer import UNOBSERVED, Observer, step_of
from icebus.worker.states import Hold, Reservable, State, kind_failed
from icebus.worker.states.core import Absent, Broken, CoreHost, CoreState, Ready, Testing

log = logging.getLogger(__name__)

CHECK_EVERY = 60.0
"""Seconds between checks of a board that nobody uses: whoever reserves it is not to find out that
it has hung, and one in fifty reservations meets a board that is being checked."""

JOURNAL_AGAIN = 10.0
"""Seconds until a journal that could not be used is tried again."""


class DeviceActor:
    """One board. Used on its loop only, but for ``status``; others use :class:`.device.Device`.

    Args:
        loop: where it lives, with other devices.
        serial: its USB serial; None for a board met in a bootloader that does not say.
        path: USB port path where it was met.
        installed: what it may be reserved for, and what firmware it may run.
        publisher: publishes what it reports.
        session: of this worker.
        directory: where its journal is kept.
        labels: by which it may be selected, given where it is plugged.
        check_every: seconds between checks of its board while nobody uses it, about; 0 for never.
        policy: what becomes of firmware that could be newer.
        observer: is told what people want counted.
    """

    def __init__(
        self,
        loop: Loop,
        serial: str | None,
        path: str,
        installed: Installed,
        publisher: Publisher,
        session: str,
        directory: Path,
        labels: Callable[[str], Mapping[str, str]] = lambda _path: {},
        check_every: float = CHECK_EVERY,
        policy: FirmwarePolicy = FirmwarePolicy.KEEP,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self.serial = serial
        self.name = serial or f"at-{path}"
        self.board: ConnectedBoard | None = None
        self.firmware = self.firmware_version = ""
        self.desired: Desired | None = None
        self._loop = loop
        self._installed = installed
        self._directory = directory
        self._journal: Journal | None = None
        self._threads = HelperThreads(loop, f"{PREFIX}{self.name}")
        self._board_port = BoardPort(
            loop,
            self._threads,
            PortCallbacks(
                on_open=self._on_open,
                on_refused=self._on_refused,
                on_held=self._on_held,
                on_hung=self.fail,
                on_data=self._on_data,
                on_lost=self._on_removed,
            ),
        )
        self._states = StateRunner(
            loop,
            name=lambda: self.name,
            on_failure=self._on_failure,
            on_journal=lambda error: self._switch(Broken(error.message, JOURNAL_AGAIN), error),
        )
        self._commands = Commands(lambda: self.journal)
        self._next_state = NextState(installed.kinds, installed.firmware, check_every, policy)
        self._reporter = Reporter(publisher, session, labels)
        self._observer = observer
        self._slowness = 1.0
        self._conflict = ""
        self._finishing: Future[None] | None = None
        self._stopped = False

    # --- what happens to it --------------------------------------------------------------------

    def _on_plugged(self, board: ConnectedBoard) -> None:
        if self._stopped:
            return
        before, self.board = self.board, board
        self._slowness = board.slowness
        same = before is not None and before.session == board.session
        if same and (self.port is not None or before == board):
            return
        if self._conflict:
            self.close()
            return
        if board.problem:
            self._refuse(board.problem)
            return
        if same:
            if before is not None and before.problem:
                self.look_again()
            return
        if self.port is not None or (before is not None and self.state is not None):
            self._on_removed()
        if self._stopped:
            return
        if self.state is None:
            self._go(self._next_state.plugged(self._facts))
        elif not board.in_bootloader:
            self.open()
        elif isinstance(self.state, CoreState):
            self._states.run(self.state, partial(self.state.on_bootloader, board))
        else:
            self.fail("the board went to its bootloader")

    def _on_unplugged(self) -> None:
        if self.board is not None:
            self.board = None
            self._on_removed()

    def _on_removed(self) -> None:
        self.close()
        state = self.state
        if state is None or self._conflict:  # or it would look for its board again
            return
        self._states.run(state, state.on_remove)
        if self.state is state and not state.outlives_port:
            self.lost("the board went away")

    def _on_conflict(self, reason: str) -> None:
        if reason == self._conflict or self._stopped:
            return
        self._conflict = reason
        if reason:
            self._refuse(reason)
        elif self.board is not None and self.board.problem:
            self._refuse(self.board.problem)
        else:
            self.look_again()

    def _refuse(self, reason: str) -> None:
        self.close()
        if not isinstance(self.state, Broken) or self.state.reason != reason:
            self._go(self._next_state.refuse(self._facts, reason))

    @property
    def _is_refused(self) -> bool:
        """Whether something is wrong that only a change of the hardware, or of rights, mends."""
        return bool(self._conflict or (self.board is not None and self.board.problem))

    def _on_desired(self, desired: Desired) -> None:
        current = self.desired
        if current is not None and desired.generation < current.generation:
            return
        self.desired = desired
        state = self.state
        if state is None or current == desired:
            return
        if isinstance(state, CoreState):
            if state.commandable and self._carry_out_command():
                return
            self._states.run(state, state.on_desired)
        else:  # who is served may be served no longer, and learns it before a command is begun
            self._states.run(state, self._release_if_not_desired)
        commandable = self.state is not None and self.state.commandable
        if not (commandable and self._carry_out_command()) and self.state is state:
            self._report()

    def _release_if_not_desired(self) -> None:
        state = self.state
        if not isinstance(state, Reservable):
            return
        hold = state.hold
        if lifecycle.still_wanted(self.desired, hold.reservation, hold.user, state.kind):
            return
        if state.idle:  # a command is carried out in the state that follows
            self._go(self._next_state.idle(self._facts))
        else:
            self._go(self._next_state.released_while_busy(self._facts))

    def _finish(self, done: Future[None]) -> None:
        self._finishing = done
        if self._stopped:
            done.set_result(None)
        elif isinstance(self.state, Reservable):
            why = WorkerLost("the worker was stopped", serial=self.name)
            self._states.run(self.state, partial(self.state.on_stop, why))
        else:
            self.finished()

    def _stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        self._states.end(WorkerLost("the worker was stopped", serial=self.name))
        self.close()
        if self._journal is not None:
            self._journal.close()
        if self._finishing is not None:
            self._finishing.set_result(None)

    # --- what every state may use (Host) --------------------------------------------------------

    @property
    def state(self) -> State | None:
        """The state that is alive."""
        return self._states.state

    @property
    def port(self) -> Port | None:
        """The board's serial port, while that is open."""
        return self._board_port.port

    @property
    def journal(self) -> Journal:
        """The device's journal."""
        if self._journal is None:
            self._journal = Journal(self._directory / f"{self.name}.sqlite")
        return self._journal

    def after(self, state: State, seconds: float, callback: Callback) -> Timer:
        """Run ``callback`` of ``state`` in ``seconds`` of a board that is not emulated."""
        return self._states.after(state, seconds * self._slowness, callback)

    def emit(self, hold: Hold, event: str, data: Message) -> None:
        """Send an event to the device's holder."""
        self.emit_json(hold, event, data.model_dump_json())

    def emit_json(self, hold: Hold, event: str, data: str) -> None:
        """The same, of data that are JSON already."""
        self._reporter.emit(self.name, self.state, hold, event, data)

    def evaluated(self, kind: str, outcome: Outcome) -> None:
        """An evaluation has its outcome."""
        self._observer.evaluated(self.name, kind, outcome)

    def acknowledged(self, evaluations: Iterable[str]) -> None:
        """Clients have the outcomes of these."""
        self._observer.acknowledged(evaluations)

    def fail(self, reason: str) -> None:
        """The board does not do what it should."""
        self._observer.failed(self.name)
        self._go(self._next_state.failed(self._facts, reason))

    def finished(self) -> None:
        """What was under way when the worker began to stop has ended."""
        if self._finishing is not None:
            self._stop()

    # --- what core states may use besides (CoreHost) --------------------------------------------

    @property
    def known_firmware(self) -> Mapping[str, Firmware]:
        """Firmware by name: what it ran last, what is wanted, then those that answer soonest."""
        kind = self.desired.kind if self.desired is not None else None
        return self._installed.likely_firmware(self.firmware, kind)

    def proved(self, firmware: str, version: str = "") -> None:
        """The board runs ``firmware``, of ``version`` if it says so, and is idle."""
        self.firmware, self.firmware_version = firmware, version
        self.become_desired()

    def found(self, expect: str | None = None, version: str = "") -> None:
        """The board is back, its port open; it must run ``expect`` if it was given that."""
        self._go(self._next_state.found(self._facts, expect, version))

    def unrecognised(self) -> None:
        """No firmware was recognised."""
        self._go(self._next_state.unrecognised(self._facts))

    def lost(self, reason: str) -> None:
        """The board is gone."""
        self._go(self._next_state.lost(self._facts, reason))

    def look_again(self) -> None:
        """It was left alone long enough, or something about it has changed: test it anew."""
        if not self._is_refused:
            self._go(self._next_state.look_again(self._facts))

    def become_desired(self) -> None:
        """Be what is desired, now that the board is proved and idle."""
        if self._carry_out_command():
            return
        ready = self.state if isinstance(self.state, Ready) else None
        check = ready.check_under_way if ready is not None else None
        transition = self._next_state.idle(self._facts, check)
        if ready is not None and isinstance(transition.state, Ready):
            self._report()
        else:
            self._go(transition)

    def progress(self, fraction: float) -> None:
        """Report how far a long step is."""
        self._reporter.progress(fraction)
        self._report()

    def run_on_thread(
        self,
        state: State,
        step: Callback,
        then: Callback,
        otherwise: Callable[[Exception], None],
    ) -> None:
        """Run a step that may block on a thread; if ``state`` is alive then, it learns the end."""
        tell = partial(self._states.run_if_alive, state)
        self._threads.run(step, lambda _: tell(then), lambda error: tell(partial(otherwise, error)))

    def open(self) -> None:
        """Open the board's port and tell the state; a board that won't open fails."""
        board = self.board
        if board is None or board.in_bootloader or self._stopped:
            return
        if self._board_port.is_opening(board):
            return
        if board.tty is not None:
            self._board_port.open(board)
            return
        self.close()
        if not isinstance(self.state, Absent):
            self.fail("it shows no serial port")

    def close(self) -> None:
        """Close the board's port."""
        self._board_port.close()

    def _on_open(self, port: Port) -> None:
        if self.state is not None:
            self._states.run(self.state, partial(self.state.on_add, port))

    def _on_refused(self, why: str) -> None:
        if not isinstance(self.state, Absent):  # which tries again by itself
            self.lost(f"its port can't be opened: {why}")

    def _on_held(self, why: str) -> None:
        if not isinstance(self.state, Absent):
            self.lost(why)
        if isinstance(self.state, Absent):
            known = self.state.reason
            self.state.on_held(why)
            if known != why:
                self._report()

    def _on_data(self, data: bytes) -> None:
        if self.state is not None:
            self._states.run(self.state, partial(self.state.on_data, data))

    # --- changing state ---------------------------------------------------------------------------

    @property
    def _facts(self) -> DeviceFacts:
        return DeviceFacts(
            *(self.name, self.board, self.desired, self.firmware), self.firmware_version
        )

    def _carry_out_command(self) -> bool:
        """Begin with a command, if there is one to be carried out."""
        desired = self.desired
        if desired is None or self.board is None or self._is_refused:
            return False
        try:
            command = self._commands.next(desired)
        except JournalUnavailable as error:
            log.warning(
                "device %s: commands wait: %s", self.name, error.message, extra=about(self.name)
            )
            if self.state is not None:
                self.state.after(JOURNAL_AGAIN, self._carry_out_command_later)
            return False
        if command is not None:
            self._go(self._next_state.commanded(self._facts, command))
        return command is not None

    def _carry_out_command_later(self) -> None:
        if self.state is not None and self.state.commandable:
            self._carry_out_command()

    def _go(self, transition: Transition) -> None:
        if transition.reopen:
            self.close()
        new = transition.state
        self._switch(new, transition.why)
        if self.state is new and isinstance(new, Testing) and self.port is None:
            self.open()

    def _switch(self, new: State, why: IcebusError) -> None:
        if self._finishing is not None:  # what was to be finished has ended otherwise
            self._states.end(why)
            self._stop()
            return
        before = self.state.reported if self.state is not None else None
        if not lifecycle.may_follow(before, new.reported):
            log.error(
                "device %s: %s may not follow %s",
                self.name,
                new.reported,
                before,
                extra=about(self.name),
            )
            new = Broken(f"{new.reported} may not follow {before}", retry=recovery.REST_FIRST)
        self._states.end(why)
        self._states.state = new
        if (step := step_of(new)) is not None:
            self._observer.stepped(step)
        self._reporter.begin(now())
        host: CoreHost = self
        new.device = host
        self._report()
        self._states.run(new, new.on_enter)
        if self.state is new and self.port is not None:
            self._states.run(new, partial(new.on_add, self.port))
        if self.state is new:
            self._next_state.reached(new)
        if self.state is new and new.commandable:
            self._carry_out_command()

    def _on_failure(self, error: BaseException) -> None:
        state = self.state
        if isinstance(state, Reservable):
            mistake = kind_failed(state.kind, "one of its steps", error)
            self._go(self._next_state.kind_failed(self._facts, state, mistake))
        elif not isinstance(self.state, Broken):
            self.fail(f"internal error: {error!r}")

    def _report(self) -> None:
        self._reporter.report(self.serial, self.state, self._facts)
