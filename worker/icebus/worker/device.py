"""A device: one board as an actor, with exactly one state alive.

States say what happened (``proved``, ``flashed``, ``fail``, ``lost``); the device decides, with the
pure functions of :mod:`icebus.worker.lifecycle`, which state comes next.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import serial as pyserial
from pydantic import JsonValue, ValidationError

from icebus.schemas.devices import Desired, DeviceState
from icebus.schemas.errors import (
    DeviceFailed,
    DeviceNotHeld,
    DeviceNotServing,
    DeviceUnplugged,
    FirmwareUnknown,
    IcebusError,
    InternalError,
    JournalUnavailable,
    ReservationEnded,
    UnknownMethod,
    WorkerLost,
)
from icebus.schemas.message import Message, now
from icebus.worker import ladder, lifecycle
from icebus.worker.commands import Command, Commands
from icebus.worker.firmware import catalogue
from icebus.worker.hardware import port as ports
from icebus.worker.hardware.board import Board
from icebus.worker.hardware.port import Port
from icebus.worker.helpers import Helpers
from icebus.worker.journal import Journal
from icebus.worker.ladder import Remedy
from icebus.worker.loop import Callback, Loop, Timer
from icebus.worker.reporting import Outlet, Status, report_of
from icebus.worker.states.core import (
    Absent,
    Broken,
    Flashing,
    Quarantined,
    Ready,
    Rebooting,
    SetAside,
    Testing,
)
from icebus.worker.states.framework import Hold, Reservable, State

log = logging.getLogger(__name__)

T = TypeVar("T")

OPEN_DEADLINE = 10.0
"""Seconds for opening a port, which takes milliseconds: a driver that needs more hangs."""

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
    ) -> None:
        self.serial = serial
        self.name = serial or f"at-{path}"
        self.status = Status()
        self.loop = loop
        self.board: Board | None = None
        self.port: Port | None = None
        self.firmware = ""
        self.desired: Desired | None = None
        self.state: State | None = None
        self._directory = directory
        self._journal: Journal | None = None
        self._kinds = kinds
        self._outlet = outlet
        self._session = session
        self._labels = labels
        self._helpers = Helpers(loop, f"board-{self.name}")
        self._commands = Commands(lambda: self.journal)
        self._opening: Board | None = None
        self._alarm: Timer | None = None
        self._failures = 0  # as the ladder counts: steps that can't help are passed over
        self._tries = 0
        self._since = now()
        self._progress: float | None = None
        self._sequence = itertools.count(1)
        self._conflict = ""
        self._finishing: Future[None] | None = None
        self._over = False

    # --- from any thread ---------------------------------------------------------------------

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
        if board.in_bootloader:
            if self.state is None:
                self._flash(catalogue.DEFAULT)
            else:
                self.run(self.state, partial(self.state.on_bootloader, board))
            return
        if self.state is None:
            self._switch(Testing(self.purpose(DeviceState.TESTING)), self._failure("found"))
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
            self._switch(Broken(reason, retry=None), self._failure(reason))
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
            state = self.state
            if not isinstance(state, Reservable):
                doing = "nothing yet" if state is None else state.reported.value
                raise DeviceNotServing(f"device {self.name} is not serving now ({doing})")
            if state.hold != hold:
                raise DeviceNotHeld(
                    f"device {self.name} is not held by reservation {hold.reservation}"
                )
            if method not in state.methods:
                raise UnknownMethod(f"kind {state.kind} has no method {method!r}")
            result = state.methods[method].call(state, arguments)
            self._refresh()
            future.set_result(result)
        except IcebusError as error:
            future.set_exception(error)
        except Exception as error:
            log.exception("method %s of %s failed", method, self.name)
            future.set_exception(InternalError(f"method {method} failed: {error!r}"))

    def _finish(self, done: Future[None]) -> None:
        self._finishing = done
        if self._over:
            done.set_result(None)
        elif isinstance(self.state, Reservable):
            self.run(self.state, partial(self.state.on_stop, self._stop_reason()))
        else:
            self.finished()

    def _stopped(self) -> None:
        if self._over:
            return
        self._over = True
        if self.state is not None:
            self._leave(self._stop_reason())
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
        self._examine(DeviceState.TESTING, expect=firmware)

    def found(self) -> None:
        """The board is back and its port was opened."""
        self._examine(DeviceState.TESTING)

    def unrecognised(self) -> None:
        """The board says nothing we know: one that never did is given the default firmware."""
        if not self.firmware:
            self._reach(Remedy.REFLASH)
        self.fail("what the board runs is not known")

    def lost(self, reason: str) -> None:
        """The board is gone."""
        self._switch(
            Absent(reason),
            DeviceUnplugged(
                f"device {self.name} was unplugged; plug it in again or release it",
                reason=reason,
                serial=self.name,
            ),
        )

    def fail(self, reason: str) -> None:
        """The board does not do what it should: take the next step of the ladder."""
        if self.board is None:
            self.lost(reason)
            return
        if self.board.in_bootloader:
            self._reach(Remedy.REBOOT)  # there is no port to open
        self._failures += 1
        self._tries += 1
        rung = ladder.rung(self._failures)
        told = rung.told(reason, self._tries)
        log.warning("device %s: %s", self.name, told)
        why = self._failure(reason)
        match rung.remedy:
            case Remedy.REOPEN:
                self.close()
                self._examine(DeviceState.TESTING, why=why, reason=told)
            case Remedy.REBOOT:
                self._reboot(told, why)
            case Remedy.REFLASH:
                self._flash(catalogue.DEFAULT, why, told)
            case Remedy.REST:
                self._switch(Broken(told, rung.pause), why)
            case Remedy.SET_ASIDE:
                self._switch(SetAside(told, rung.pause), why)

    def retry(self) -> None:
        """A broken device has rested, or something about it has changed: look at it anew."""
        if self._conflict:
            return
        if self.board is None:
            self.lost("the board is not there")
        elif self.board.in_bootloader:
            self._flash(catalogue.DEFAULT)
        else:
            self.close()
            self._examine(DeviceState.TESTING, reason="looked at again" if self._failures else "")

    def settle(self) -> None:
        """Be what is desired, now that the board is proved and idle."""
        if self._obey():
            return
        needed = {name: kind.firmware for name, kind in self._kinds.items()}
        desired = self.desired
        match lifecycle.next_step(desired, self.firmware, needed):
            case lifecycle.Rest() if isinstance(self.state, Ready):
                self._report()
            case lifecycle.Rest():
                self._switch(Ready(), self._ended())
            case lifecycle.Isolate(reason):
                self._switch(Quarantined(reason), self._failure(reason))
            case lifecycle.Refuse(reason):
                self._switch(Broken(reason, retry=None), self._failure(reason))
            case lifecycle.Flash(firmware):
                self._flash(firmware)
            case lifecycle.Serve(kind) if desired is not None:
                self._serve(self._kinds[kind], desired)

    def reconcile(self) -> None:
        """A serving state asks whether it still should: if not, come to rest and settle."""
        state = self.state
        if not isinstance(state, Reservable) or self._still_wanted(state):
            return
        if state.idle:
            self.settle()
        else:
            self._examine(DeviceState.RELEASING, expect=self.firmware)

    def emit(self, hold: Hold, event: str, data: Message) -> None:
        """Send an event to the device's holder."""
        self._outlet.emit(hold, self.name, event, next(self._sequence), data)
        self._refresh()

    def progress(self, fraction: float) -> None:
        """Report how far a long step is."""
        self._progress = fraction
        self._report()

    def finished(self) -> None:
        """What was under way when the worker was told to stop has ended."""
        if self._finishing is not None:
            self._stopped()

    def assist(
        self,
        step: Callable[[], T],
        then: Callable[[T], None],
        otherwise: Callable[[Exception], None],
    ) -> None:
        """Run a step that may block on a helper thread; how it ended is told on the loop."""
        self._helpers.run(step, then, otherwise)

    def open(self) -> None:
        """Open the board's port and tell the state; a board that won't open fails."""
        board = self.board
        if board is None or board.in_bootloader or self._opening is board or self._over:
            return
        self.close()
        if board.tty is None:
            if not isinstance(self.state, Absent):
                self.fail("it shows no serial port")
            return
        self._opening = board
        self._alarm = self.loop.call_later(OPEN_DEADLINE, partial(self._not_opened, board))
        self._helpers.run(
            partial(ports.connect, board.tty),
            partial(self._opened, board),
            partial(self._refused, board),
        )

    def close(self) -> None:
        """Close the board's port."""
        self._opening = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self.port is not None:
            self.port.close()
            self.port = None

    # --- the port -------------------------------------------------------------------------------

    def _opened(self, board: Board, connection: pyserial.Serial) -> None:
        if self._opening is not board:  # it took so long that nobody waits any more
            self._helpers.run(connection.close, lambda _: None, lambda _: None)
            return
        self.close()
        self.port = Port(self.loop, connection, self._on_data, self._on_lost)
        if self.state is not None:
            self.run(self.state, partial(self.state.on_add, self.port))

    def _refused(self, board: Board, error: Exception) -> None:
        if self._opening is not board:
            return
        self.close()
        if not isinstance(self.state, Absent):  # which tries again by itself
            why = error.strerror if isinstance(error, OSError) else None
            self.lost(f"its port can't be opened: {why or error}")

    def _not_opened(self, board: Board) -> None:
        if self._opening is board:
            self.close()
            self.fail(f"its port did not open in {OPEN_DEADLINE:.0f} s")

    # --- changing state ---------------------------------------------------------------------------

    def _still_wanted(self, state: Reservable) -> bool:
        desired = self.desired
        return (
            desired is not None
            and desired.quarantined is None
            and desired.reservation == state.hold.reservation
            and desired.user == state.hold.user
            and desired.kind == state.kind
        )

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
        self._failures = self._tries = 0
        why = self._failure(f"an administrator asked for a {command}")
        told = f"{command}, as an administrator asked"
        if command is Command.REBOOT:
            self._reboot(told, why)
        else:
            kind = self._kinds.get(desired.kind or "")
            firmware = self.firmware or catalogue.DEFAULT
            self._flash(kind.firmware if kind is not None else firmware, why, told)
        return True

    def _obey_later(self) -> None:
        if self.state is not None and self.state.commandable:
            self._obey()

    def _reach(self, remedy: Remedy) -> None:
        """Have the next failure answered by no less than ``remedy``."""
        self._failures = max(self._failures, ladder.failures_of(remedy) - 1)

    def _serve(self, kind: type[Reservable], desired: Desired) -> None:
        hold = Hold(reservation=str(desired.reservation), user=str(desired.user))
        try:
            args = kind.Args.model_validate(desired.args)
        except ValidationError as error:
            reason = f"args of {kind.kind}: {error.errors()[0]['msg']}"
            self._switch(Broken(reason, retry=None), self._failure(reason))
            return
        self._switch(kind(hold, args), self._ended())

    def _reboot(self, reason: str, why: IcebusError) -> None:
        self._switch(Rebooting(self.purpose(DeviceState.TESTING), reason), why)

    def _flash(self, firmware: str, why: IcebusError | None = None, reason: str = "") -> None:
        if self.board is None:
            self.lost("the board went away")
            return
        try:
            image = catalogue.image(firmware, self.board)
        except FirmwareUnknown as error:
            self._switch(Broken(error.message, retry=None), error)
            return
        reported = self.purpose(DeviceState.FLASHING)
        self._switch(Flashing(reported, firmware, image, reason), why or self._ended())

    def _examine(
        self,
        reported: DeviceState,
        expect: str | None = None,
        why: IcebusError | None = None,
        reason: str = "",
    ) -> None:
        """Test the board over its port as it is, or over one opened for that."""
        if reported is not DeviceState.RELEASING:
            reported = self.purpose(reported)
        testing = Testing(reported, expect, reason)
        self._switch(testing, why or self._ended())
        if self.state is testing and self.port is None:
            self.open()

    def purpose(self, otherwise: DeviceState) -> DeviceState:
        """As what work on the board appears: ``preparing`` when it is for a reservation."""
        wanted = self.desired is not None and self.desired.reservation is not None
        return DeviceState.PREPARING if wanted else otherwise

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
        self._sequence = itertools.count(1)
        self.state = new
        self._since = now()
        self._progress = None
        new.device = self
        self._report()
        self.run(new, new.on_enter)
        if self.state is new and self.port is not None:
            self.run(new, partial(new.on_add, self.port))
        if self.state is new and new.reported in lifecycle.SOUND:
            self._failures = self._tries = 0
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

    def _on_data(self, data: bytes) -> None:
        if self.state is not None:
            self.run(self.state, partial(self.state.on_data, data))

    def _on_lost(self, reason: str) -> None:
        log.info("device %s: port lost: %s", self.name, reason)
        self._removed()

    # --- telling others ---------------------------------------------------------------------------

    def _stop_reason(self) -> WorkerLost:
        return WorkerLost("the worker was stopped", serial=self.name)

    def _failure(self, reason: str) -> DeviceFailed:
        return DeviceFailed(f"device {self.name} failed: {reason}", reason=reason, serial=self.name)

    def _ended(self) -> ReservationEnded:
        return ReservationEnded(
            "the reservation ended before this was measured; extend it in time, or reserve again"
        )

    def _refresh(self) -> None:
        self.status = Status.of(self.state)

    def _report(self) -> None:
        self._refresh()
        if self.state is not None and self.serial is not None:
            report = report_of(
                self.serial,
                self.state,
                self.desired,
                self.board,
                firmware=self.firmware,
                session=self._session,
                since=self._since,
                progress=self._progress,
                labels=self._labels(self.board.path if self.board is not None else ""),
            )
            self._outlet.report(report)
