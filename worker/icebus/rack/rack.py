"""The rack: a set of boards that follows ``rack.json``."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from icebus.rack.board import RackServices, VirtualBoard
from icebus.rack.emulator.board import EmulatedBoard
from icebus.rack.evaluator import PoolEvaluator
from icebus.rack.folder import remove_stale
from icebus.rack.lock import RackLock
from icebus.rack.loop import Loop
from icebus.rack.settings import BoardSettings
from icebus.rack.watch import DirectoryWatch
from icebus.schemas.boards.rack import RACK_FILE, read_rack_file
from icebus.schemas.errors import FirmwareInvalid, InvalidRequest, ProgramMissing
from icebus.schemas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from icebus.rack.evaluator import Evaluator
    from icebus.schemas.boards.rack import RackBoard

_LOG = logging.getLogger(__name__)


class Rack:
    """Runs the boards of a directory, on the thread that calls :meth:`run`.

    Args:
        directory: where the boards appear; made if there is none.
        settings: how they behave.
        make_evaluator: what simulates their FPGAs; by default a pool of processes.
    """

    def __init__(
        self,
        directory: Path,
        settings: BoardSettings | None = None,
        make_evaluator: Callable[[Loop], Evaluator] = PoolEvaluator,
    ) -> None:
        self._directory = directory
        self._loop = Loop()
        self._services = RackServices(
            directory,
            self._loop,
            DirectoryWatch(self._loop),
            make_evaluator(self._loop),
            settings or BoardSettings(),
            self._slowness,
        )
        self._boards: dict[str, VirtualBoard] = {}
        self._flashes: dict[str, bytes] = {}

    def run(
        self,
        prepare: Callable[[], None] = lambda: None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Have the boards there until :meth:`stop`; leaves no folder, thread or process behind.

        Args:
            prepare: called once the directory is this rack's alone, before its boards are plugged.
            on_ready: called once they are plugged.

        Raises:
            Conflict: another rack runs in the directory.
            InvalidRequest: ``rack.json`` is there and isn't what it should be.
        """
        try:
            with RackLock(self._directory):
                prepare()
                self._run(on_ready)
        finally:
            self._loop.close()

    @property
    def loops(self) -> dict[str, Callable[[Callable[[], None]], None]]:
        """What has to turn for the rack to be alive: by name, how each is asked to."""
        return {"the boards' loop": self._loop.call_threadsafe}

    def status(self) -> str:
        """What it does, in some words."""
        return f"{counted(len(self._boards), 'board')} plugged"

    def stop(self) -> None:
        """Make :meth:`run` return; from any thread or signal handler."""
        self._loop.stop()

    def _run(self, on_ready: Callable[[], None]) -> None:
        remove_stale(self._directory)
        read_rack_file(self._directory)
        watch, evaluator = self._services.watch, self._services.evaluator
        watch.start()
        try:
            watch.add(self._directory, self._changed)
            evaluator.start()
            self._reconcile(finished=True)
            on_ready()
            self._loop.run()
        finally:
            for port in list(self._boards):
                self._unplug(port)
            evaluator.stop()
            watch.stop()

    def _changed(self, path: Path, finished: bool) -> None:
        if path.name == RACK_FILE:
            self._reconcile(finished)

    def _reconcile(self, finished: bool) -> None:
        """Plug and unplug until the boards are those of ``rack.json``."""
        try:
            rack = read_rack_file(self._directory)
        except InvalidRequest as error:
            if finished:
                _LOG.warning("the boards stay as they are: %s", error)
            return
        if rack is None:
            return
        wanted = {spec.port: spec for spec in rack.boards}
        for port, board in list(self._boards.items()):
            spec = wanted.get(port)
            if spec is None or not board.spec.same_plug(spec):
                self._unplug(port)
            elif spec != board.spec:
                board.update_fault(spec)
        for port, spec in wanted.items():
            if port not in self._boards:
                self._plug(spec)

    def _plug(self, spec: RackBoard) -> None:
        make = EmulatedBoard if spec.emulated else VirtualBoard
        try:
            board = make(spec, self._services, self._flashes.get(spec.serial))
        except (ProgramMissing, FirmwareInvalid, OSError) as error:
            _LOG.error("%s can't be emulated: %s", spec.port, error)
            return
        self._flashes.pop(spec.serial, None)
        self._boards[spec.port] = board
        board.plug()

    def _slowness(self) -> float:
        emulated = sum(board.spec.emulated for board in self._boards.values())
        cores = os.cpu_count() or 1
        return self._services.settings.slowness * max(1.0, emulated / cores)

    def _unplug(self, port: str) -> None:
        board = self._boards.pop(port)
        board.unplug()
        self._flashes[board.spec.serial] = board.flash
