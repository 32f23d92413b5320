"""Injects faults into the parts of a farm, and says how to repair them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial

from bench.chaos.faults import BOARD_FAULTS, Fault, FaultType
from bench.chaos.parts import DATABASE, Parts
from bench.chaos.timers import Action
from bench.network import Network
from icebus.schemas.boards.rack import Fault as BoardFault
from icebus.schemas.boards.rack import RackBoard, RackFile, edit_rack_file, read_rack_file

STOP_TIMEOUT = 30.0
"""Seconds that a part which was asked to stop may need."""


class FaultInjector:
    """Lets parts of a farm fail.

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

    def inject(self, fault: Fault) -> Action | None:
        """Let a fault happen; returns how to repair it, unless it is over at once."""
        name, type_ = fault.target, fault.type
        if type_ in BOARD_FAULTS:
            return self._misbehave(name, BoardFault(type_.value), fault.boards)
        match type_:
            case FaultType.KILL | FaultType.STOP | FaultType.FORGET:
                return self._take_down(name, type_)
            case FaultType.FREEZE:
                return self._freeze(name)
            case FaultType.CUT:
                self._network.cut(self._parts.link(name))
            case FaultType.HALF_OPEN:
                self._network.half_open(self._parts.link(name))
            case FaultType.DELAY:
                self._network.delay(self._parts.link(name))
                return partial(self._network.resume, self._parts.link(name))
            case FaultType.UNPLUG:
                return self._edit(name, lambda n, board: None if n in fault.boards else board)
            case FaultType.RESET:
                return self._edit(name, lambda _n, _board: None)
        return None

    def _take_down(self, name: str, type_: FaultType) -> Action:
        parts = self._parts
        parts.known_down.add(name)
        process = parts.process(name)
        # At TERM, PostgreSQL waits until everybody has disconnected.
        stop_signal = signal.SIGINT if name == DATABASE else signal.SIGTERM
        process.send_signal(stop_signal if type_ is FaultType.STOP else signal.SIGKILL)

        def start() -> None:
            # It may need a moment to stop, and two of one name would disturb each other.
            process.wait(STOP_TIMEOUT)
            if type_ is FaultType.FORGET:
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

    def _misbehave(self, name: str, fault: BoardFault, boards: tuple[int, ...]) -> Action:
        def with_fault(number: int, board: RackBoard) -> RackBoard:
            return board.model_copy(update={"fault": fault}) if number in boards else board

        return self._edit(name, with_fault)

    def _edit(self, name: str, change: Callable[[int, RackBoard], RackBoard | None]) -> Action:
        """Change the boards of a rack, or take them out; returns how to restore them."""
        number = int(name.removeprefix("rack"))
        directory, all_boards = self._parts.farm.rack(number), self._racks[number]
        changed = (change(index, board) for index, board in enumerate(all_boards))
        left = RackFile(boards=tuple(board for board in changed if board is not None))
        edit_rack_file(directory, lambda _: left)
        return lambda: edit_rack_file(directory, lambda _: RackFile(boards=all_boards))
