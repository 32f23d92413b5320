"""What tests of the worker share: devices with a scripted board, and whole workers."""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import select
import signal
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import pytest
from pydantic import BaseModel, JsonValue

from icebus.broker.access import Principal
from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Bus, Incoming, Requester
from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import (
    RackBoard,
    RackFile,
    edit_rack_file,
    read_boards,
    write_rack_file,
)
from icebus.schemas.calls import Call, CallResults
from icebus.schemas.components import WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import Desired, DeviceEvent, DeviceReport, DeviceState
from icebus.schemas.errors import IcebusError
from icebus.schemas.files import ENCODING_PROPERTY, File, pack, sha256_of
from icebus.schemas.ids import new_id
from icebus.schemas.message import Message, decode
from icebus.schemas.topics import (
    BLOB,
    CALL,
    DESIRED,
    DEVICE,
    EVENT,
    WORKER_EVENT,
    WORKER_STATE,
    Role,
)
from icebus.worker.device.device import Device
from icebus.worker.device.journal import Journal
from icebus.worker.firmware.pulse_count import _firmware, _meter
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.hardware.rack import RackDiscovery
from icebus.worker.installed import Installed
from icebus.worker.loop import Loop
from icebus.worker.states import Hold, installed_kinds
from icebus.worker.states.core import testing
from icebus.worker.worker import Worker

TIMEOUT = 30.0
"""Seconds a test waits for what should come within milliseconds."""

CIRCUITS = Path(__file__).parents[2] / "examples" / "circuits"

PEOPLE = (
    Principal(id="main", role=Role.CONTROL),
    Principal(id="w1", role=Role.WORKER),
    Principal(id="alice", role=Role.USER),
    Principal(id="bob", role=Role.USER),
)

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def eventually(get: Callable[[], T], what: str = "it") -> T:
    """What ``get`` gives once that is true."""
    deadline = Deadline.after(TIMEOUT)
    while not (value := get()):
        if deadline.expired:
            raise AssertionError(f"{what} did not come true")
        time.sleep(0.002)
    return value


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., Any]:
    return eventually


# --- a board whose every word is scripted -------------------------------------------------------


class ScriptedBoard:
    """The board's end of a PTY. The test is the firmware: it reads and speaks as it pleases."""

    def __init__(self) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.path = Path(os.ttyname(slave))
        os.close(slave)
        os.set_blocking(self.master, False)

    def close(self) -> None:
        """Unplug it."""
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def take(self, count: int = text.BITSTREAM_SIZE) -> bytes:
        """Exactly so many bytes from the host."""
        got = bytearray()
        deadline = Deadline.after(TIMEOUT)
        while len(got) < count:
            deadline.check(f"{count} bytes, of which {len(got)} have come")
            select.select([self.master], [], [], 0.05)
            with contextlib.suppress(BlockingIOError, OSError):  # EIO: the host has it closed
                got += os.read(self.master, count - len(got))
        return bytes(got)

    def pending(self, seconds: float = 0.0) -> int:
        """How many bytes wait, or come within that time."""
        got = 0
        deadline = Deadline.after(seconds)
        while True:
            select.select([self.master], [], [], deadline.remaining)
            with contextlib.suppress(BlockingIOError, OSError):
                got += len(os.read(self.master, 1 << 16))
                continue
            if deadline.expired:
                return got

    def say_bytes(self, data: bytes) -> None:
        rest = memoryview(data)
        deadline = Deadline.after(TIMEOUT)
        while rest:
            deadline.check("the host to listen")
            select.select([], [self.master], [], 0.05)
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(self.master, rest) :]

    def say(self, *lines: str) -> None:
        self.say_bytes("".join(line + text.EOL for line in lines).encode())

    def start(self, count: int = text.BITSTREAM_SIZE) -> bytes:
        """Begin a transfer and take so much of it."""
        data = self.take(count)
        self.say(text.STARTED, text.RECEIVING)
        return data

    def receive(self) -> bytes:
        """Take a whole transfer."""
        data = self.start()
        self.say(text.RECEIVED.format(us=100), text.FLASHING)
        return data

    def report(self, pulses: int, *before: str) -> None:
        times = text.FLASH_TIMES.format(init=1, start=2, open=3, write=4, close=5)
        self.say(*before, times, text.PULSES.format(pulses=pulses))

    def rest(self) -> None:
        self.say(text.IDLE, text.CONNECTED, text.WAITING)

    def watchdog(self, received: int) -> None:
        """The watchdog."""
        self.say(text.WATCHDOG.format(received=received, size=text.BITSTREAM_SIZE), text.WAITING)

    def measure(self, pulses: int) -> bytes:
        """A whole measurement, as it should be."""
        data = self.receive()
        self.report(pulses)
        self.rest()
        return data


class Recorder:
    """Records what a device publishes, instead of publishing it."""

    def __init__(self) -> None:
        self.reports: list[DeviceReport] = []
        self.events: list[tuple[Hold, str, int, Message]] = []
        self._changed = threading.Condition()

    def report(self, report: DeviceReport) -> None:
        with self._changed:
            self.reports.append(report)
            self._changed.notify_all()

    def emit(self, hold: Hold, serial: str, event: str, sequence: int, data: Message) -> None:
        with self._changed:
            self.events.append((hold, event, sequence, data))
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


def blank(value: int) -> bytes:
    """Something of a bitstream's size that can be told from others."""
    return bytes([value]) * text.BITSTREAM_SIZE


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
    boards: list[ScriptedBoard] = field(default_factory=list)

    def plug(self) -> None:
        """Plug the board into its port."""
        self.sessions += 1
        self.device.plug(
            ConnectedBoard(
                path="1-1.1",
                session=f"session-{self.sessions}",
                chip=Chip.RP2040,
                serial=self.device.serial,
                tty=self.board.path,
                drive=None,
                virtual=True,
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
        kind = installed_kinds()["pulsecount"]
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
        self.board.rest()

    def _clear_line(self) -> None:
        eventually(lambda: self.device.port is not None and not self.device.port.sending)
        self.board.pending()

    def evaluate(self, *values: int, batch: str = "b", more: bool = False) -> list[str]:
        """Queue bitstreams that consist of these bytes; gives their ids."""
        files = [bitstream_file(blank(value)) for value in values]
        self.invoke("evaluate", bitstreams=files, batch=batch, more=more, validate=False)
        return [file.id for file in files]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker with short deadlines; boards here answer at once."""
    monkeypatch.setattr(testing, "LISTEN", 0.02)
    monkeypatch.setattr(_meter, "QUIET", 0.2)


MakeDeviceHarness = Callable[..., DeviceHarness]


@pytest.fixture
def make_harness(tmp_path: Path, quick: None) -> Iterator[MakeDeviceHarness]:
    """Makes devices on scripted boards, each on a loop of its own unless one is given."""
    made: list[DeviceHarness] = []

    def make(
        serial: str = "S1",
        shared: Loop | None = None,
        installed: Installed | None = None,
        **options: Any,
    ) -> DeviceHarness:
        recorder, board = Recorder(), ScriptedBoard()
        loop = shared or Loop(f"device-{serial}")
        if shared is None:
            loop.start()
        given = installed or Installed.load()
        device = Device(loop, serial, "1-1.1", given, recorder, "session", tmp_path, **options)
        harness = DeviceHarness(tmp_path, loop, device, recorder, board, boards=[board])
        made.append(harness)
        return harness

    yield make
    for harness in made:
        harness.device.stop()
    for harness in made:
        assert harness.loop.stop(Deadline.after(TIMEOUT)), "the device did not stop"
        for board in harness.boards:
            board.close()


@pytest.fixture
def harness(make_harness: MakeDeviceHarness) -> DeviceHarness:
    return make_harness()


@pytest.fixture
def ready(harness: DeviceHarness) -> DeviceHarness:
    """A device that is ready, with nobody to serve."""
    harness.be_ready()
    return harness


@pytest.fixture
def serving(harness: DeviceHarness) -> DeviceHarness:
    """A device that serves ``HOLD``."""
    harness.serve()
    return harness


@pytest.fixture
def scripted_board() -> Iterator[ScriptedBoard]:
    board = ScriptedBoard()
    yield board
    board.close()


@pytest.fixture
def make_file() -> Callable[..., File]:
    return bitstream_file


@pytest.fixture
def make_desired() -> Callable[..., Desired]:
    return desired


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


# --- whole workers, on a real broker with a real rack -------------------------------------------


class Rack:
    """The process of a rack, and what may be done to it."""

    def __init__(self, directory: Path, boards: list[RackBoard], **options: object) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        write_rack_file(directory, RackFile(boards=tuple(boards)))
        command = [sys.executable, "-m", "icebus.rack.cli", "run", "-d", str(directory)]
        settings = {"window": 0.05, "bandwidth": 0, "absence": 0.01, "processes": 1, **options}
        for name, value in settings.items():
            command += [f"--{name}", str(value)]
        self.process = subprocess.Popen(command)

    def wait(self) -> None:
        wanted = {board.serial for board in self.boards}
        eventually(
            lambda: {board.serial for board in read_boards(self.directory)} >= wanted, "the rack"
        )

    @property
    def boards(self) -> tuple[RackBoard, ...]:
        return edit_rack_file(self.directory, lambda rack: rack).boards

    def plug(self, board: RackBoard) -> None:
        edit_rack_file(self.directory, lambda rack: RackFile(boards=(*rack.boards, board)))

    def change(self, how: Callable[[RackBoard], dict[str, Any]]) -> None:
        """Change what ``how`` gives of each board."""
        edit_rack_file(
            self.directory,
            lambda rack: RackFile(
                boards=tuple(board.model_copy(update=how(board)) for board in rack.boards)
            ),
        )

    def unplug(self, serial: str) -> None:
        edit_rack_file(
            self.directory,
            lambda rack: RackFile(boards=tuple(b for b in rack.boards if b.serial != serial)),
        )

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """No board does anything meanwhile."""
        status = Path(f"/proc/{self.process.pid}/stat")
        self.process.send_signal(signal.SIGSTOP)
        eventually(lambda: status.read_text().rsplit(")", 1)[1].split()[0] == "T", "the rack")
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(TIMEOUT)


def rack_board(number: int, firmware: str = "pulse_count") -> RackBoard:
    return RackBoard(port=f"1-1.{number}", serial=f"BOARD{number}", firmware=firmware)


@pytest.fixture(scope="session")
def spare_rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    rack = Rack(tmp_path_factory.mktemp("spare"), [])
    yield rack
    rack.stop()


MakeRack = Callable[..., Rack]


@pytest.fixture
def make_rack(tmp_path: Path, spare_rack: Rack) -> Iterator[MakeRack]:
    """Racks of a test's own; without options it is lent a running one, as starting one takes long.

    What is in a board's flash stays there, so that boards of one serial must mean the same.
    """
    racks: list[Rack] = []

    def make(*boards: RackBoard, **options: object) -> Rack:
        if not options:
            edit_rack_file(spare_rack.directory, lambda _: RackFile(boards=boards))
            spare_rack.wait()
            return spare_rack
        racks.append(Rack(tmp_path / f"rack{len(racks)}", list(boards), **options))
        racks[-1].wait()
        return racks[-1]

    yield make
    for rack in racks:
        rack.stop()
    edit_rack_file(spare_rack.directory, lambda _: RackFile())
    eventually(lambda: not read_boards(spare_rack.directory), "the boards to be gone")


@pytest.fixture
def make_board() -> Callable[..., RackBoard]:
    return rack_board


class Peers:
    """Everybody else on the bus: the test speaks as control and as two users."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.broker = broker
        self.hold = Hold(reservation=new_id("r-"), user="alice")
        self._changed = threading.Condition()
        self.generations: dict[str, int] = {}
        self.nonces = itertools.count(1)
        self.reports: dict[str, list[DeviceReport | None]] = {}
        self.worker_states: list[WorkerState] = []
        self.device_events: list[DeviceEvent] = []
        self.events: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.control = self._bus("main")
        self.users = {"alice": self._bus("alice"), "bob": self._bus("bob")}
        self.control.subscribe(DEVICE, self._on_device)
        self.control.subscribe(WORKER_STATE, self._on_worker)
        self.control.subscribe(WORKER_EVENT, self._on_worker_event)
        self.requesters: dict[str, Requester] = {}
        for name, bus in self.users.items():
            bus.subscribe(EVENT, self._on_event, user=name)
            self.requesters[name] = Requester(bus, name, f"client-{name}")

    def _bus(self, principal: str) -> Bus:
        bus = Bus(self.broker.address(principal), principal)
        bus.connect(Deadline.after(TIMEOUT))
        return bus

    def close(self) -> None:
        for requester in self.requesters.values():
            requester.close()
        for bus in [self.control, *self.users.values()]:
            bus.close(Deadline.after(1))

    # --- what control does ----------------------------------------------------------------------

    def desire(self, serial: str, hold: Hold | None, **fields: Any) -> int:
        generation = self.generations[serial] = self.generations.get(serial, 0) + 1
        self.publish_desired(desired(serial, generation, hold, **fields))
        return generation

    def publish_desired(self, wanted: Desired) -> None:
        topic = DESIRED(worker="w1", serial=wanted.serial)
        self.control.publish(topic, wanted).result(TIMEOUT)

    def reserve(self, *serials: str, **fields: Any) -> None:
        """Have the devices serve ``self.hold``."""
        generations = {serial: self.desire(serial, self.hold, **fields) for serial in serials}
        for serial, generation in generations.items():
            self.wait_state(serial, DeviceState.SERVING, generation=generation)

    def release(self, *serials: str) -> None:
        generations = {serial: self.desire(serial, None) for serial in serials}
        for serial, generation in generations.items():
            self.wait_state(serial, DeviceState.READY, generation=generation)

    # --- what users do --------------------------------------------------------------------------

    def send_blob(
        self,
        content: bytes,
        user: str = "alice",
        sha256: str | None = None,
        encoding: str | None = None,
    ) -> str:
        packed, how = pack(content)
        name = sha256 or sha256_of(content)
        self.users[user].publish(
            BLOB(worker="w1", user=user, sha256=name),
            packed,
            properties={ENCODING_PROPERTY: encoding or how},
        ).result(TIMEOUT)
        return name

    def call(
        self,
        method: str,
        *serials: str,
        user: str = "alice",
        reservation: str | None = None,
        **args: Any,
    ) -> CallResults:
        held = reservation or self.hold.reservation
        request = Call(id=new_id(), reservation=held, serials=list(serials), args=args)
        topic = CALL(worker="w1", user=user, method=method)
        deadline = Deadline.after(TIMEOUT)
        return self.requesters[user].send(topic, request, "w1", CallResults, deadline).wait()

    def refused(self, method: str, *serials: str, **more: Any) -> IcebusError:
        """The error that a call is answered with."""
        with pytest.raises(IcebusError) as refusal:
            self.call(method, *serials, **more)
        return refusal.value

    def evaluate(
        self, serial: str, *contents: bytes, batch: str = "batch", **more: Any
    ) -> list[str]:
        """Queue bitstreams on a device; gives the ids of the evaluations."""
        files = []
        for content in contents:
            sha256 = self.send_blob(content)
            files.append({"id": new_id(), "name": f"{sha256[:6]}.bin", "sha256": sha256})
        answer = self.call("evaluate", serial, bitstreams=files, batch=batch, **more)
        assert answer.errors == {}
        return [str(file["id"]) for file in files]

    # --- what is heard --------------------------------------------------------------------------

    def wait(self, condition: Callable[[], T], what: str) -> T:
        with self._changed:
            self._changed.wait_for(condition, TIMEOUT)
            value = condition()
            assert value, f"waited in vain for {what}; reports: {self.reports}"
            return value

    def last(self, serial: str) -> DeviceReport | None:
        return (self.reports.get(serial) or [None])[-1]

    def wait_state(
        self, serial: str, *states: DeviceState, generation: int = 0, session: str = ""
    ) -> DeviceReport:
        """The device's latest report, once it tells of one of these states."""

        def look() -> DeviceReport | None:
            report = self.last(serial)
            if report is None or report.generation < generation:
                return None
            fits = report.state in states and session in ("", report.session)
            return report if fits else None

        found = self.wait(look, f"{serial} to be {states}")
        assert found is not None
        return found

    def mark(self, serial: str) -> int:
        """How many reports there were: for :meth:`wait_since`."""
        return len(self.reports.get(serial, []))

    def wait_since(self, serial: str, mark: int, state: DeviceState) -> DeviceReport:
        """The first report of ``state`` after ``mark``, even if others have followed."""
        found = self.wait(
            lambda: [r for r in self.reports.get(serial, [])[mark:] if r and r.state is state],
            f"{serial} to go through {state}",
        )
        assert found[0] is not None
        return found[0]

    def outcomes(self, evaluation: str) -> list[tuple[str, dict[str, Any]]]:
        """Every outcome of an evaluation that was told, repetitions included."""
        return [
            (levels["event"], event["data"])
            for levels, event in self.events
            if levels["event"] in ("results", "failures")
            and event["data"]["evaluation"] == evaluation
        ]

    def wait_outcome(self, evaluation: str, number: int = 1) -> tuple[str, dict[str, Any]]:
        return self.wait(
            lambda: self.outcomes(evaluation)[number - 1 : number], f"outcome {number}"
        )[0]

    def wait_event(self, name: str, count: int = 1) -> dict[str, Any]:
        found = self.wait(
            lambda: [e["data"] for levels, e in self.events if levels["event"] == name][
                count - 1 :
            ],
            name,
        )
        data: dict[str, Any] = found[0]
        return data

    def wait_worker(self, matching: Callable[[WorkerState], bool]) -> WorkerState:
        return self.wait(
            lambda: [s for s in self.worker_states[-1:] if matching(s)], "the worker's state"
        )[0]

    def _on_device(self, incoming: Incoming) -> None:
        report = decode(DeviceReport, incoming.payload) if incoming.payload else None
        with self._changed:
            self.reports.setdefault(incoming.ids["serial"], []).append(report)
            self._changed.notify_all()

    def _on_worker(self, incoming: Incoming) -> None:
        with self._changed:
            self.worker_states.append(decode(WorkerState, incoming.payload))
            self._changed.notify_all()

    def _on_worker_event(self, incoming: Incoming) -> None:
        with self._changed:
            self.device_events.append(decode(DeviceEvent, incoming.payload))
            self._changed.notify_all()

    def _on_event(self, incoming: Incoming) -> None:
        with self._changed:
            self.events.append((incoming.ids, decode(AnyEvent, incoming.payload).model_dump()))
            self._changed.notify_all()


class AnyEvent(BaseModel):
    sequence: int
    data: dict[str, Any]


@pytest.fixture
def peers(broker: EmbeddedBroker) -> Iterator[Peers]:
    """Everybody but the worker, on a broker of the test's own."""
    everybody = Peers(broker)
    yield everybody
    everybody.close()


class StartWorker(Protocol):
    def __call__(self, *racks: Rack, **options: Any) -> Worker: ...


@pytest.fixture
def start_worker(broker: EmbeddedBroker, tmp_path: Path, quick: None) -> Iterator[StartWorker]:
    """Starts workers in this process; they are stopped at the end."""
    workers: list[Worker] = []

    def start(*racks: Rack, **options: Any) -> Worker:
        workers.append(make_worker(broker, tmp_path / "journals", *racks, **options))
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop(Deadline.after(TIMEOUT))


def make_worker(broker: EmbeddedBroker, journals: Path, *racks: Rack, **options: Any) -> Worker:
    discoveries = [RackDiscovery(rack.directory) for rack in racks]
    worker = Worker(broker.address("w1"), discoveries, journals, **options)
    worker.start(Deadline.after(TIMEOUT))
    return worker


@pytest.fixture(scope="session")
def shared_farm(
    tmp_path_factory: pytest.TempPathFactory, broker_class: type[EmbeddedBroker]
) -> Iterator[Peers]:
    directory = tmp_path_factory.mktemp("farm")
    broker = broker_class(directory / "broker", list(PEOPLE))
    broker.start(Deadline.after(TIMEOUT))
    rack = Rack(directory / "rack", [rack_board(1), rack_board(2)])
    rack.wait()
    peers = Peers(broker)
    worker = make_worker(broker, directory / "journals", rack)
    yield peers
    worker.stop(Deadline.after(TIMEOUT))
    peers.close()
    rack.stop()
    broker.stop(Deadline.after(TIMEOUT))


@pytest.fixture
def farm(shared_farm: Peers, quick: None) -> Iterator[Peers]:
    """A worker with two boards, both ready; shared, so each test has a reservation of its own."""
    farm = shared_farm
    farm.hold = Hold(reservation=new_id("r-"), user="alice")
    for serial in ("BOARD1", "BOARD2"):
        farm.wait_state(serial, DeviceState.READY)
    farm.events.clear()
    yield farm
    farm.release("BOARD1", "BOARD2")


class FaultyFarm(Generic[K]):
    """A worker with a rack and a broker of its own, and boards that are made to fail.

    Args:
        directory: for all of it.
        broker_class: of the broker.
        keys: one board for each, by which the test calls it.
    """

    def __init__(
        self, directory: Path, broker_class: type[EmbeddedBroker], keys: Iterable[K]
    ) -> None:
        self.serials = {key: f"BOARD{number}" for number, key in enumerate(keys, 1)}
        self.bitstream = (CIRCUITS / "pulse_2khz.bin").read_bytes()
        self._broker = broker_class(directory / "broker", list(PEOPLE))
        self._broker.start(Deadline.after(TIMEOUT))
        boards = [rack_board(number) for number in range(1, len(self.serials) + 1)]
        self._rack = Rack(directory / "rack", boards)
        self._rack.wait()
        self.peers = Peers(self._broker)
        self._worker = make_worker(self._broker, directory / "journals", self._rack)

    def __enter__(self) -> FaultyFarm[K]:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.stop(Deadline.after(TIMEOUT))
        self.peers.close()
        self._rack.stop()
        self._broker.stop(Deadline.after(TIMEOUT))

    def inject_faults(self) -> None:
        """Have each board fail in the way that is its key."""
        faults = {serial: key for key, serial in self.serials.items()}
        self._rack.change(lambda board: {"fault": faults[board.serial]})

    def repair_all(self) -> None:
        """End all faults."""
        self._rack.change(lambda _: {"fault": None})

    def move(self, serial: str, port: str) -> None:
        """Plug a board elsewhere."""
        self._rack.change(lambda board: {"port": port if board.serial == serial else board.port})

    def reset_hub(self) -> None:
        """All boards go from the bus at once, and come back at once."""
        marks = {serial: self.peers.mark(serial) for serial in self.serials.values()}
        boards = self._rack.boards
        edit_rack_file(self._rack.directory, lambda _: RackFile())
        for serial, mark in marks.items():
            self.peers.wait_since(serial, mark, DeviceState.ABSENT)
        edit_rack_file(self._rack.directory, lambda _: RackFile(boards=boards))
        for serial, mark in marks.items():
            self.peers.wait_since(serial, mark, DeviceState.READY)

    def measure_until_result(self, serial: str) -> str:
        """Evaluate until that gives a result: a slow machine may look like a broken board."""
        deadline = Deadline.after(TIMEOUT)
        while True:
            deadline.check("a result")
            self.peers.wait_state(serial, DeviceState.SERVING)
            try:
                (evaluation,) = self.peers.evaluate(serial, self.bitstream)
            except IcebusError:
                continue
            if self.peers.wait_outcome(evaluation)[0] == "results":
                return "results"

    def wait_for_helpers(self) -> None:
        """Wait until nothing is done on threads besides the worker's own."""
        eventually(
            lambda: not [t for t in threading.enumerate() if t.name.startswith("board-")],
            "the end of the helpers",
        )


class MakeFaultyFarm(Protocol):
    def __call__(self, directory: Path, keys: Iterable[K]) -> FaultyFarm[K]: ...


@pytest.fixture(scope="session")
def make_faulty_farm(broker_class: type[EmbeddedBroker]) -> MakeFaultyFarm:
    def make(directory: Path, keys: Iterable[K]) -> FaultyFarm[K]:
        return FaultyFarm(directory, broker_class, keys)

    return make


WORKER_WITH_SHORT_DEADLINES = """
from icebus.worker.states.core import testing
from icebus.worker.cli import main
testing.LISTEN = 0.1
main()
"""
"""A worker that does not listen as long as boards of other labs need."""


class WorkerProcess:
    """A worker as it is run: a process of its own."""

    def __init__(self, broker: EmbeddedBroker, rack: Rack, journals: Path) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", WORKER_WITH_SHORT_DEADLINES),
                *("--rack", str(rack.directory), "--directory", str(journals)),
            ],
            env={**os.environ, "ICEBUS_BROKER": broker.address("w1").url()},
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT)


StartProcess = Callable[[Rack], WorkerProcess]


@pytest.fixture
def start_process(broker: EmbeddedBroker, tmp_path: Path) -> Iterator[StartProcess]:
    """Starts worker processes, each a life of the same worker; killed at the end."""
    running: list[WorkerProcess] = []

    def start(rack: Rack) -> WorkerProcess:
        running.append(WorkerProcess(broker, rack, tmp_path / "journals"))
        return running[-1]

    yield start
    for each in running:
        each.kill()


@pytest.fixture
def circuits() -> dict[str, bytes]:
    """Real bitstreams, by name."""
    return {path.stem: path.read_bytes() for path in sorted(CIRCUITS.glob("*.bin"))}


@pytest.fixture
def baud() -> Callable[[Path], int]:
    """The speed that a port is set to."""

    def read(path: Path) -> int:
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
        try:
            speed: int = termios.tcgetattr(descriptor)[4]
            return speed
        finally:
            os.close(descriptor)

    return read
