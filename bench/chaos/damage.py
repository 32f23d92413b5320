"""Does to the parts of a farm what the schedule says, and tells how to mend it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial

from bench.chaos.agenda import Action
from bench.chaos.faults import ILL, Fault, Kind
from bench.chaos.parts import DATABASE, Parts
from bench.network import Network
from icebus.schemas.boards.rack import Fault as Ailment
from icebus.schemas.boards.rack import RackBoard, RackFile, edit_rack_file, read_rack_file

STOPPED = 30.0
"""Seconds that a part which was asked to stop may need."""


class Damage:
    """What can be done to a farm.

    Args:
        parts: its processes.
        network: between them and the broker.
    """

    def __init__(self, parts: Parts, network: Network) -> None:
        self._parts = parts
        self._network = network
        self._racks = [
            (read_rack_file(parts.farm.rack(number)) or RackFile()).boards
            for number in range(parts.farm.shape.workers)
        ]

    @property
    def serials(self) -> list[str]:
        """Of all boards."""
        return [board.serial for rack in self._racks for board in rack]

    def do(self, fault: Fault) -> Action | None:
        """Do it; returns how to mend it, unless it is over at once."""
        name, kind = fault.target, fault.kind
        if kind in ILL:
            return self._sicken(name, Ailment(kind.value), fault.boards)
        match kind:
            case Kind.KILL | Kind.STOP | Kind.FORGET:
                return self._take_down(name, kind)
            case Kind.FREEZE:
                return self._freeze(name)
            case Kind.CUT:
                self._network.cut(self._parts.line(name))
            case Kind.HALF_OPEN:
                self._network.half_open(self._parts.line(name))
            case Kind.HOLD:
                self._network.hold(self._parts.line(name))
                return partial(self._network.resume, self._parts.line(name))
            case Kind.UNPLUG:
                return self._edit(name, lambda n, board: None if n in fault.boards else board)
            case Kind.RESET:
                return self._edit(name, lambda _n, _board: None)
        return None

    def _take_down(self, name: str, kind: Kind) -> Action:
        parts = self._parts
        parts.down.add(name)
        process = parts.process(name)
        # What PostgreSQL is asked with TERM is to wait until nobody wants anything any more.
        gently = signal.SIGINT if name == DATABASE else signal.SIGTERM
        process.send_signal(gently if kind is Kind.STOP else signal.SIGKILL)

        def start() -> None:
            # One that was asked to stop may need a moment: two of one name are another story.
            process.wait(STOPPED)
            if kind is Kind.FORGET:
                (parts.farm.broker.directory / "mosquitto.db").unlink(missing_ok=True)
            parts.start(name)

        return start

    def _freeze(self, name: str) -> Action:
        database = self._parts.farm.database
        if name == DATABASE and database is not None:
            database.freeze()
            return database.thaw
        pid = self._parts.pid(name)
        os.kill(pid, signal.SIGSTOP)
        return partial(os.kill, pid, signal.SIGCONT)

    def _sicken(self, name: str, ailment: Ailment, boards: tuple[int, ...]) -> Action:
        def sickened(number: int, board: RackBoard) -> RackBoard:
            ill = board.model_copy(update={"fault": ailment})
            return ill if number in boards else board

        return self._edit(name, sickened)

    def _edit(self, name: str, change: Callable[[int, RackBoard], RackBoard | None]) -> Action:
        """Change the boards of a rack, or take them out; returns how to have them as they were."""
        number = int(name.removeprefix("rack"))
        directory, whole = self._parts.farm.rack(number), self._racks[number]
        changed = (change(index, board) for index, board in enumerate(whole))
        left = RackFile(boards=tuple(board for board in changed if board is not None))
        edit_rack_file(directory, lambda _: left)
        return lambda: edit_rack_file(directory, lambda _: RackFile(boards=whole))
