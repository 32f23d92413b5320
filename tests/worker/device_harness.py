"""A device with a scripted board, and what it publishes."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import JsonValue
from tests.worker.scripted_board import ScriptedBoard, blank
from tests.worker.waiting import TIMEOUT, eventually

from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import Mode
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import Desired, DeviceReport, DeviceState
from icebus.schemas.files import File
from icebus.schemas.ids import new_id
from icebus.schemas.message import Message
from icebus.worker.device.device import Device
from icebus.worker.firmware.pulse_count import _firmware
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.loop import Loop
from icebus.worker.states import Hold, Reservable, installed_kinds

T = TypeVar("T")


class Recorder:
    """Records what a device publishes, instead of publishing it.

    Args:
        kinds: that it may be reserved for, which say what their events carry.
    """

    def __init__(self, kinds: Mapping[str, type[Reservable]]) -> None:
        self._kinds = kinds
        self._kind = ""
        self.reports: list[DeviceReport] = []
        self.events: list[tuple[Hold, str, int, Message]] = []
        self._changed = threading.Condition()

    def report(self, report: DeviceReport) -> None:
        with self._changed:
            self._kind = report.kind or self._kind
            self.reports.append(report)
            self._changed.notify_all()

    def emit(self, hold: Hold, serial: str, event: str, sequence: int, data: str) -> None:
        model: type[Message] = self._kinds[self._kind].events[event].data
        with self._changed:
            self.events.append((hold, event, sequence, model.model_validate_json(data)))
            self._changed.notify_all()

    @property
    def states(self) -> list[DeviceState]:
        """What was reported, without repetitions."""
        states = [report.state for report in self.reports]
        return [s for i, s in enumerate(states) if i == 0 or s is not states[i - 1]]

    def named(self, event: str) -> list[Any]:
        return [data for _, name, _, data in self.events if name == event]

    def wait(self, condition: Callable[[], T], what: str = "it") -> T:
        with self._changed:
            self._changed.wait_for(condition, TIMEOUT)
            value = condition()
            assert value, f"{what} was not reported; states: {self.states}; events: {self.events}"
            return value

    def wait_state(self, state: DeviceState, after: int = 0) -> DeviceReport:
        def look() -> list[DeviceReport]:
            return [report for report in self.reports[after:] if report.state is state]

        return self.wait(look, state)[0]

    def wait_events(self, event: str, count: int = 1) -> list[Any]:
        self.wait(lambda: len(self.named(event)) >= count, f"{count} × {event}")
        return self.named(event)


HOLD = Hold(reservation="r1", user="alice")


def desired(serial: str, generation: int, hold: Hold | None = None, **fields: Any) -> Desired:
    """What control wants: that ``hold`` counts pulses on the device, or nothing."""
    if hold is not None:
        fields = {
            "reservation": hold.reservation,
            "user": hold.user,
            "kind": "pulsecount",
            **fields,
        }
    return Desired(serial=serial, generation=generation, **fields)


def bitstream_file(content: bytes, name: str | None = None, **fields: Any) -> File:
    encoded = base64.b64encode(content)
    return File.model_validate({"id": name or new_id(), "data": encoded, **fields})


@dataclass
class DeviceHarness:
    """A device with a scripted board, and what it has said."""

    directory: Path
    loop: Loop
    device: Device
    recorder: Recorder
    board: ScriptedBoard
    generation: int = 0
    sessions: int = 0
    slowness: float = 1.0
    emulated: bool = False
    boards: list[ScriptedBoard] = field(default_factory=list)

    def plug(self, problem: str = "") -> None:
        """Plug the board into its port."""
        self.sessions += 1
        self.show(problem)

    def show(self, problem: str = "") -> None:
        """Say how the plugged board is now."""
        self.device.plug(
            ConnectedBoard(
                path="1-1.1",
                session=f"session-{self.sessions}",
                chip=Chip.RP2040,
                serial=self.device.serial,
                tty=self.board.path,
                drive=None,
                virtual=True,
                mode=Mode.APPLICATION,
                labels={"hub": "1-1"},
                problem=problem,
                slowness=self.slowness,
                emulated=self.emulated,
            )
        )

    def replace(self) -> None:
        """Another port for the board, as after plugging it anew."""
        self.board.close()
        self.board = ScriptedBoard()
        self.boards.append(self.board)

    def on_loop(self, step: Callable[[], T]) -> T:
        """What ``step`` gives on the device's loop."""
        answer: Future[T] = Future()
        self.loop.post(lambda: answer.set_result(step()))
        return answer.result(TIMEOUT)

    def desire(self, hold: Hold | None, **fields: Any) -> None:
        self.generation += 1
        self.device.desire(desired(self.device.name, self.generation, hold, **fields))

    def pass_test(self) -> None:
        """Do as the firmware does when it is tested: count nothing in a blank bitstream."""
        assert self.board.measure(0) == _firmware.BLANK

    def be_ready(self) -> None:
        """Bring the device to being ready."""
        already = len(self.recorder.reports)
        self.plug()
        self.pass_test()
        self.recorder.wait_state(DeviceState.READY, already)

    def serve(self, hold: Hold = HOLD) -> None:
        """Bring the device to serving ``hold``."""
        already = len(self.recorder.reports)
        self.desire(hold)
        self.plug()
        self.pass_test()
        self.recorder.wait_state(DeviceState.SERVING, already)

    def invoke(self, method: str, **arguments: Any) -> JsonValue:
        kinds = installed_kinds()  # those of tests have the methods that all have which measure
        kind = kinds.get(self.device.status.kind or "", kinds["pulsecount"])
        raw = {
            key: [each.model_dump(mode="json") for each in value] if key == "bitstreams" else value
            for key, value in arguments.items()
        }
        parsed = kind.methods[method].parse(raw, lambda _: None)
        hold = self.device.status.hold or HOLD
        return self.device.invoke(hold, method, parsed).result(TIMEOUT)

    def watchdog(self, received: int) -> None:
        """The watchdog; what was under way is gone when this returns."""
        self.board.watchdog(received)
        self._clear_line()

    def answer_test(self) -> None:
        """Pass a test after whatever went before: old bytes may still be on the line."""
        got = 0
        deadline = Deadline.after(TIMEOUT)
        while got < text.BITSTREAM_SIZE:
            deadline.check("the bytes of a test")
            got += self.board.pending(0.01)
        self._clear_line()
        self.board.say(text.STARTED, text.RECEIVED.format(us=1))
        self.board.report(0)
        self.board.go_idle()

    def _clear_line(self) -> None:
        eventually(lambda: self.device.port is not None and not self.device.port.sending)
        self.board.pending()

    def evaluate(self, *values: int, batch: str = "b", more: bool = False) -> list[str]:
        """Queue bitstreams that consist of these bytes; gives their ids."""
        files = [bitstream_file(blank(value)) for value in values]
        self.invoke("evaluate", bitstreams=files, batch=batch, more=more, validate=False)
        return [file.id for file in files]
