"""A device: one board as an actor, with exactly one state alive.

States say what happened (``proved``, ``flashed``, ``fail``, ``lost``); the device decides, with the
pure functions of :mod:`icebus.worker.lifecycle`, which state comes next.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

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
    ReservationEnded,
    UnknownMethod,
    WorkerLost,
)
from icebus.schemas.message import Message, now
from icebus.worker import lifecycle
from icebus.worker.firmware import catalogue
from icebus.worker.hardware.board import Board
from icebus.worker.hardware.port import Port
from icebus.worker.journal import Journal
from icebus.worker.lifecycle import Remedy
from icebus.worker.loop import Callback, Loop
from icebus.worker.reporting import Outlet, Status, report_of
from icebus.worker.states.core import Absent, Broken, Flashing, Quarantined, Ready, Testing
from icebus.worker.states.framework import Hold, Reservable, State

log = logging.getLogger(__name__)


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
        self._failures = 0
        self._since = now()
        self._progress: float | None = None
        self._sequence = itertools.count(1)
        self._conflict = ""
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
        if self.state is not None:
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
        self.run(state, state.on_desired)
        if self.state is state:
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

    def _stopped(self) -> None:
        self._over = True
        if self.state is not None:
            why = WorkerLost("the worker was stopped", serial=self.name)
            self._leave(why)
        self.close()
        if self._journal is not None:
            self._journal.close()

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
        """The board lives but says nothing we know: give it the default firmware."""
        self._failures = max(self._failures, 1)
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
        self._failures += 1
        step, rest = lifecycle.remedy(self._failures)
        log.warning("device %s: %s; %s", self.name, reason, step.value)
        if self.board is None:
            self.lost(reason)
        elif step is Remedy.REST:
            self._switch(Broken(reason, retry=rest), self._failure(reason))
        elif step is Remedy.REFLASH or self.board.in_bootloader:
            self._flash(catalogue.DEFAULT, self._failure(reason))
        else:
            self.close()
            self._examine(DeviceState.TESTING, why=self._failure(reason))

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
            self._examine(DeviceState.TESTING)

    def settle(self) -> None:
        """Be what is desired, now that the board is proved and idle."""
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

    def open(self) -> None:
        """Open the board's port and tell the state; a board that won't open fails."""
        board = self.board
        if board is None or board.tty is None:
            return
        try:
            self.port = Port(self.loop, board.tty, self._on_data, self._on_lost)
        except OSError as error:
            if isinstance(self.state, Absent):
                return  # it tries again by itself
            self.lost(f"its port can't be opened: {error.strerror or error}")
            return
        if self.state is not None:
            self.run(self.state, partial(self.state.on_add, self.port))

    def close(self) -> None:
        """Close the board's port."""
        if self.port is not None:
            self.port.close()
            self.port = None

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

    def _serve(self, kind: type[Reservable], desired: Desired) -> None:
        hold = Hold(reservation=str(desired.reservation), user=str(desired.user))
        try:
            args = kind.Args.model_validate(desired.args)
        except ValidationError as error:
            reason = f"args of {kind.kind}: {error.errors()[0]['msg']}"
            self._switch(Broken(reason, retry=None), self._failure(reason))
            return
        self._switch(kind(hold, args), self._ended())

    def _flash(self, firmware: str, why: IcebusError | None = None) -> None:
        if self.board is None:
            self.lost("the board went away")
            return
        try:
            image = catalogue.image(firmware, self.board)
        except FirmwareUnknown as error:
            self._switch(Broken(error.message, retry=None), error)
            return
        reported = self.purpose(DeviceState.FLASHING)
        self._switch(Flashing(reported, firmware, image), why or self._ended())

    def _examine(
        self, reported: DeviceState, expect: str | None = None, why: IcebusError | None = None
    ) -> None:
        """Test the board over its port as it is, or over one opened for that."""
        if reported is not DeviceState.RELEASING:
            reported = self.purpose(reported)
        self._switch(Testing(reported, expect), why or self._ended())
        if self.port is None:
            self.open()

    def purpose(self, otherwise: DeviceState) -> DeviceState:
        """As what work on the board appears: ``preparing`` when it is for a reservation."""
        wanted = self.desired is not None and self.desired.reservation is not None
        return DeviceState.PREPARING if wanted else otherwise

    def _switch(self, new: State, why: IcebusError) -> None:
        before = self.state.reported if self.state is not None else None
        if not lifecycle.may_follow(before, new.reported):
            log.error("device %s: %s may not follow %s", self.name, new.reported, before)
            new = Broken(f"{new.reported} may not follow {before}", retry=lifecycle.REST_FIRST)
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
            self._failures = 0

    def run(self, state: State, step: Callback) -> None:
        """Let ``state`` do something; what it does not foresee is the device's failure."""
        try:
            step()
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
            )
            self._outlet.report(report)
