"""What tests of the worker share: devices with a scripted board, and whole workers."""

from __future__ import annotations

import os
import termios
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from tests.worker.device_harness import DeviceHarness, Recorder, bitstream_file, desired
from tests.worker.peers import Peers
from tests.worker.racks import Rack, rack_board
from tests.worker.scripted_board import ScriptedBoard, blank
from tests.worker.waiting import TIMEOUT, eventually
from tests.worker.workers import CIRCUITS, PEOPLE, FaultyFarm, WorkerProcess, make_worker

from icebus.broker.embedded import EmbeddedBroker
from icebus.schemas.boards.rack import RackBoard, RackFile, edit_rack_file, read_boards
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import Desired, DeviceState
from icebus.schemas.files import File
from icebus.schemas.ids import new_id
from icebus.worker.device.device import Device
from icebus.worker.device.journal import Journal
from icebus.worker.firmware.framed import _firmware as framed_firmware
from icebus.worker.firmware.pulse_count import _meter
from icebus.worker.installed import Installed
from icebus.worker.loop import Loop
from icebus.worker.states import Hold
from icebus.worker.states.core import testing
from icebus.worker.worker import Worker

K = TypeVar("K", bound=Hashable)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., Any]:
    return eventually


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker with short deadlines; boards here answer at once."""
    monkeypatch.setattr(testing, "LISTEN", 0.02)
    monkeypatch.setattr(_meter, "QUIET", 0.2)
    monkeypatch.setattr(framed_firmware, "ANSWER", 0.3)


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
        loop = shared or Loop(f"device-{serial}")
        if shared is None:
            loop.start()
        given = installed or Installed.load()
        recorder, board = Recorder(given.kinds), ScriptedBoard()
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
def one_evaluation() -> dict[str, Any]:
    """Arguments of one evaluation, which may be sent again."""
    return {"bitstreams": [bitstream_file(blank(5), "e1")], "batch": "b", "validate": False}


@pytest.fixture
def make_desired() -> Callable[..., Desired]:
    return desired


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


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


class MakeFaultyFarm(Protocol):
    def __call__(
        self, directory: Path, keys: Iterable[K], firmware: str = ...
    ) -> FaultyFarm[K]: ...


@pytest.fixture(scope="session")
def make_faulty_farm(broker_class: type[EmbeddedBroker]) -> MakeFaultyFarm:
    def make(directory: Path, keys: Iterable[K], firmware: str = "pulse_count") -> FaultyFarm[K]:
        return FaultyFarm(directory, broker_class, keys, firmware)

    return make


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
