"""A device: one board as an actor, with exactly one state alive.

States say what happened (``proved``, ``flashed``, ``fail``, ``lost``); which state comes next is
decided in :mod:`icebus.worker.device.next_state`, and made so here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import serial as pyserial
from pydantic import JsonValue

from icebus.schemas.devices import Desired, DeviceState
from icebus.schemas.errors import IcebusError, JournalUnavailable
from icebus.schemas.message import Message, now
from icebus.worker.device import endings, lifecycle
from icebus.worker.device import recovery as ladder
from icebus.worker.device.commands import Commands
from icebus.worker.device.device_report import Outlet, Reporter, Status
from icebus.worker.device.facts import Facts
from icebus.worker.device.helper_threads import Helpers
from icebus.worker.device.invoking import invoke
from icebus.worker.device.journal import Journal
from icebus.worker.device.next_state import Course, Move
from icebus.worker.device.opening import Opening
from icebus.worker.hardware.board import Board
from icebus.worker.hardware.port import Port
from icebus.worker.loop import Callback, Loop
from icebus.worker.states._framework import Hold, Reservable, State
from icebus.worker.states.core import Absent, Broken, Ready, Testing

log = logging.getLogger(__name__)

T = TypeVar("T")

PROBE_EVERY = 60.0
"""Seconds between looks at a board that nobody uses: whoever reserves it is not to find out that it
has hung, and one in fifty reservations meets a board that is being looked at."""

JOURNAL_AGAIN = 10.0
"""Seconds until a journal that could not be used is tried again."""


class Device:
    """One board. Methods in the first part may be used from any thread, the rest on the loop only.

    Args:
        loop: where it lives, with other devices.
        serial: its USB serial; None for a board met in a bootloader that does not say.
        path: USB port path where it was met.
        kinds: what it may be reserved for.
        outlet: where its words go.
        session: of this worker.
        directory: where its journal is kept.
        labels: by which it may be selected, given where it is plugged.
        probe_every: seconds between looks at its board while nobody uses it, about; 0 for never.
    """

    def __init__(
        self,
        loop: Loop,
        serial: str | None,
        path: str,
        kinds: Mapping[str, type[Reservable]],
        outlet: Outlet,
        session: str,
        directory: Path,
        labels: Callable[[str], Mapping[str, str]] = lambda _path: {},
        probe_every: float = PROBE_EVERY,
    ) -> None:
        self.serial = serial
        self.name = serial or f"at-{path}"
        self.loop = loop
        self.board: Board | None = None
        self.port: Port | None = None
        self.firmware = ""
        self.desired: Desired | None = None
        self.state: State | None = None
        self._directory = directory
        self._journal: Journal | None = None
        self._helpers = Helpers(loop, f"board-{self.name}")
        self._opening = Opening(loop, self._helpers, self._opened, self._refused, self.fail)
        self._commands = Commands(lambda: self.journal)
        self._course = Course(kinds, probe_every)
        self._reporter = Reporter(outlet, session, labels)
        self._conflict = ""
        self._finishing: Future[None] | None = None
        self._over = False

    # --- from any thread ---------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """What it does now, as far as others need to know."""
        return self._reporter.status

    def plug(self, board: Board) -> None:
        """The board is there, or has come back in another mode or at another port."""
        self.loop.post(lambda: self._plugged(board))

    def unplug(self) -> None:
        """The board is gone from its port."""
        self.loop.post(self._unplugged)

    def desire(self, desired: Desired) -> None:
        """Control wants something of the device."""
        self.loop.post(lambda: self._desire(desired))

    def contest(self, reason: str) -> None:
        """Refuse to work while something about the device is ambiguous; empty to go on."""
        self.loop.post(lambda: self._contest(reason))

    def invoke(self, hold: Hold, method: str, arguments: dict[str, Any]) -> Future[JsonValue]:
        """Call a method of the state that serves ``hold``, on the loop."""
        future: Future[JsonValue] = Future()
        self.loop.post(lambda: self._invoke(hold, method, arguments, future))
        return future

    def adopt(self, serial: str) -> None:
        """The board has said what its serial is; from now on the device is published."""
        self.serial = self.name = serial

    def repeat(self) -> None:
        """Report again, for a broker that has lost what it retained."""
        self.loop.post(lambda: self._report() if self.state is not None else None)

    def finish(self) -> Future[None]:
        """End what waits, finish what is under way, and stop; done when that is."""
        done: Future[None] = Future()
        self.loop.post(lambda: self._finish(done))
        return done

    def stop(self) -> None:
        """End its state; nothing happens to it any more."""
        self.loop.post(self._stopped)

    # --- what happens to it --------------------------------------------------------------------

    def _plugged(self, board: Board) -> None:
        if self._over:
            return
        before, self.board = self.board, board
        if before is not None and before.session == board.session:
            return
        if self._conflict:
            self.close()
            return
        if self.port is not None or (before is not None and self.state is not None):
            self._removed()
        if self._over:
            return
        if self.state is None:
            self._go(self._course.meet(self._facts))
        elif board.in_bootloader:
            self.run(self.state, partial(self.state.on_bootloader, board))
        else:
            self.open()

    def _unplugged(self) -> None:
        if self.board is None:
            return
        self.board = None
        self._removed()

    def _removed(self) -> None:
        self.close()
        if self.state is not None and not self._conflict:  # or it would look for its board again
            self.run(self.state, self.state.on_remove)

    def _contest(self, reason: str) -> None:
        if reason == self._conflict or self._over:
            return
        self._conflict = reason
        if reason:
            self.close()
            self._go(self._course.refuse(self._facts, reason))
        else:
            self.retry()

    def _desire(self, desired: Desired) -> None:
        current = self.desired
        if current is not None and desired.generation < current.generation:
            return
        self.desired = desired
        if self.state is None or current == desired:
            return
        state = self.state
        # Who is served may be served no longer, and is told so before a command is heard.
        if state.commandable and not isinstance(state, Reservable) and self._obey():
            return
        self.run(state, state.on_desired)
        commandable = self.state is not None and self.state.commandable
        if not (commandable and self._obey()) and self.state is state:
            self._report()

    def _invoke(
        self, hold: Hold, method: str, arguments: dict[str, Any], future: Future[JsonValue]
    ) -> None:
        try:
            result = invoke(self.name, self.state, hold, method, arguments)
        except IcebusError as error:
            future.set_exception(error)
        else:
            self._reporter.refresh(self.state)
            future.set_result(result)

    def _finish(self, done: Future[None]) -> None:
        self._finishing = done
        if self._over:
            done.set_result(None)
        elif isinstance(self.state, Reservable):
            self.run(self.state, partial(self.state.on_stop, endings.stopped(self.name)))
        else:
            self.finished()

    def _stopped(self) -> None:
        if self._over:
            return
        self._over = True
        self._leave(endings.stopped(self.name))
        self.close()
        if self._journal is not None:
            self._journal.close()
        if self._finishing is not None:
            self._finishing.set_result(None)

    # --- what states say -------------------------------------------------------------------------

    @property
    def journal(self) -> Journal:
        """The device's journal."""
        if self._journal is None:
            self._journal = Journal(self._directory / f"{self.name}.sqlite")
        return self._journal

    def proved(self, firmware: str) -> None:
        """The board runs ``firmware`` and is idle."""
        self.firmware = firmware
        self.settle()

    def flashed(self, firmware: str) -> None:
        """The board was given ``firmware`` and its port was opened."""
        self._go(self._course.examine(self._facts, expect=firmware))

    def found(self) -> None:
        """The board is back and its port was opened."""
        self._go(self._course.examine(self._facts))

    def unrecognised(self) -> None:
        """The board says nothing we know."""
        self._go(self._course.fail_unrecognised(self._facts))

    def lost(self, reason: str) -> None:
        """The board is gone."""
        self._go(self._course.lose(self._facts, reason))

    def fail(self, reason: str) -> None:
        """The board does not do what it should."""
        self._go(self._course.fail(self._facts, reason))

    def retry(self) -> None:
        """A broken device has rested, or something about it has changed: look at it anew."""
        if not self._conflict:
            self._go(self._course.retry(self._facts))

    def settle(self) -> None:
        """Be what is desired, now that the board is proved and idle."""
        if self._obey():
            return
        idle = self.state if isinstance(self.state, Ready) else None
        move = self._course.settle(self._facts, idle.probe if idle is not None else None)
        if idle is not None and isinstance(move.state, Ready):
            self._report()
        else:
            self._go(move)

    def reconcile(self) -> None:
        """A serving state asks whether it still should: if not, come to rest and settle."""
        state = self.state
        if not isinstance(state, Reservable):
            return
        hold = state.hold
        if lifecycle.still_wanted(self.desired, hold.reservation, hold.user, state.kind):
            return
        if state.idle:
            self.settle()
        else:
            self._go(self._course.come_to_rest(self._facts))

    def emit(self, hold: Hold, event: str, data: Message) -> None:
        """Send an event to the device's holder."""
        self._reporter.emit(self.name, self.state, hold, event, data)

    def progress(self, fraction: float) -> None:
        """Report how far a long step is."""
        self._reporter.progress(fraction)
        self._report()

    def finished(self) -> None:
        """What was under way when the worker was told to stop has ended."""
        if self._finishing is not None:
            self._stopped()

    def purpose(self, otherwise: DeviceState) -> DeviceState:
        """As what work on the board appears."""
        return lifecycle.purpose(self.desired, otherwise)

    def assist(
        self,
        step: Callable[[], T],
        then: Callable[[T], None],
        otherwise: Callable[[Exception], None],
    ) -> None:
        """Run a step that may block on a helper thread; how it ended is told on the loop."""
        self._helpers.run(step, then, otherwise)

    # --- the port -------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the board's port and tell the state; a board that won't open fails."""
        board = self.board
        if board is None or board.in_bootloader or self._opening.is_of(board) or self._over:
            return
        self.close()
        if board.tty is not None:
            self._opening.begin(board)
        elif not isinstance(self.state, Absent):
            self.fail("it shows no serial port")

    def close(self) -> None:
        """Close the board's port."""
        self._opening.give_up()
        if self.port is not None:
            self.port.close()
            self.port = None

    def _opened(self, connection: pyserial.Serial) -> None:
        self.port = Port(self.loop, connection, self._on_data, self._on_lost)
        if self.state is not None:
            self.run(self.state, partial(self.state.on_add, self.port))

    def _refused(self, error: Exception) -> None:
        if not isinstance(self.state, Absent):  # which tries again by itself
            why = error.strerror if isinstance(error, OSError) else None
            self.lost(f"its port can't be opened: {why or error}")

    def _on_data(self, data: bytes) -> None:
        if self.state is not None:
            self.run(self.state, partial(self.state.on_data, data))

    def _on_lost(self, reason: str) -> None:
        log.info("device %s: port lost: %s", self.name, reason)
        self._removed()

    # --- changing state ---------------------------------------------------------------------------

    @property
    def _facts(self) -> Facts:
        return Facts(self.name, self.board, self.desired, self.firmware)

    def _obey(self) -> bool:
        """Begin with a command of an administrator, if there is one to be carried out."""
        desired = self.desired
        if desired is None or self.board is None or self._conflict:
            return False
        try:
            command = self._commands.take(desired)
        except JournalUnavailable as error:
            log.warning("device %s: commands wait: %s", self.name, error.message)
            if self.state is not None:
                self.state.after(JOURNAL_AGAIN, self._obey_later)
            return False
        if command is None:
            return False
        self._go(self._course.obey(self._facts, command))
        return True

    def _obey_later(self) -> None:
        if self.state is not None and self.state.commandable:
            self._obey()

    def _go(self, move: Move) -> None:
        if move.afresh:
            self.close()
        self._switch(move.state, move.why)
        if self.state is move.state and isinstance(move.state, Testing) and self.port is None:
            self.open()

    def _switch(self, new: State, why: IcebusError) -> None:
        if self._finishing is not None:  # what was to be finished has ended otherwise
            self._leave(why)
            self._stopped()
            return
        before = self.state.reported if self.state is not None else None
        if not lifecycle.may_follow(before, new.reported):
            log.error("device %s: %s may not follow %s", self.name, new.reported, before)
            new = Broken(f"{new.reported} may not follow {before}", retry=ladder.REST_FIRST)
        self._leave(why)
        self.state = new
        self._reporter.begin(now())
        new.device = self
        self._report()
        self.run(new, new.on_enter)
        if self.state is new and self.port is not None:
            self.run(new, partial(new.on_add, self.port))
        if self.state is new:
            self._course.reached(new)
        if self.state is new and new.commandable:
            self._obey()

    def run(self, state: State, step: Callback) -> None:
        """Let ``state`` do something; what it does not foresee is the device's failure."""
        try:
            step()
        except JournalUnavailable as error:
            log.warning("device %s: %s", self.name, error.message)
            if self.state is state:
                self._switch(Broken(error.message, retry=JOURNAL_AGAIN), error)
        except Exception as error:
            log.exception("device %s: state %s failed", self.name, type(state).__name__)
            if self.state is state and not isinstance(state, Broken):
                self.fail(f"internal error: {error!r}")

    def _leave(self, why: IcebusError) -> None:
        if self.state is None:
            return
        state, self.state = self.state, None
        try:
            state.leave(why)
        except Exception:
            log.exception("device %s: leaving %s failed", self.name, type(state).__name__)

    def _report(self) -> None:
        self._reporter.report(self.serial, self.state, self._facts)
