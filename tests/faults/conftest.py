"""A lab whose parts are killed and cut off while people evaluate in it.

All tests of a process share one farm of real processes behind a network that can fail. Each has it
idle and ready, and has to leave it so: that no fault loses a device or leaves a reservation is thus
part of every test.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.farm import Farm, Shape
from bench.network import Network
from bench.population import Individual, individual
from icebus.broker.access import Principal
from icebus.client import PulseCountClient, PulseCountResult
from icebus.client.kinds.pulsecount import Boards, PulseCountOutcome
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceState
from icebus.schemas.topics import Role

WINDOW = 0.05
MEASUREMENT = {"window": WINDOW}
BOARDS = 6
GRACE = 10.0
"""Seconds, as control has it unless it is told otherwise. Of a connection that is dead but open the
broker learns 15 s after the last word and the client up to 5 s later: a grace of little more than
that would end reservations whenever the machine is busy just then.
"""

HEARTBEAT = 2.0
"""Seconds. A worker is missed after three of them, and none may be for this machine's slowness."""

SOON = 60.0
"""Seconds within which whatever is waited for here happens on a busy machine."""

_steps = itertools.count(1, 7)


def some(size: int) -> list[Individual]:
    """Bitstreams that no other test has."""
    return [individual(step % 32_767 + 1) for step in itertools.islice(_steps, size)]


class Lab:
    """The farm, and what may happen to it.

    Attributes:
        farm: its processes.
        network: between them and the broker.
    """

    def __init__(self, farm: Farm) -> None:
        assert farm.network is not None
        self.farm = farm
        self.network: Network = farm.network
        self._watcher = PulseCountClient(farm.broker.address("bench").url())

    def user(self, name: str) -> PulseCountClient:
        """A client of its own for somebody, through the network."""
        return PulseCountClient(self.farm.admit(Principal(id=name, role=Role.USER)))

    def kill(self, part: str) -> None:
        """End a part without warning, and see that it is gone."""
        self.farm.process(part).kill()
        self.farm.process(part).wait(SOON)

    def kill_broker(self, *, forget: bool) -> None:
        """The same of the broker, and perhaps of what it has saved."""
        process = self.farm.broker.child.process
        process.kill()
        process.wait(SOON)
        if forget:
            (self.farm.broker.directory / "mosquitto.db").unlink(missing_ok=True)

    def save_broker(self) -> None:
        """Have the broker write down what it keeps, as it does once a minute."""
        saved = self.farm.broker.directory / "mosquitto.db"
        saved.unlink(missing_ok=True)
        self.farm.broker.child.process.send_signal(signal.SIGUSR1)
        # Mosquitto writes another file first, and renames it.
        self.wait(saved.exists, "Mosquitto has not saved")

    def start_broker(self) -> None:
        self.farm.broker.start(Deadline.after(SOON))

    @contextmanager
    def without(self, part: str) -> Iterator[None]:
        """A part is killed at the beginning of the block, and started again at its end."""
        self.kill(part)
        try:
            yield
        finally:
            self.farm.start(part)

    def holders(self) -> dict[str, str]:
        """Who holds what: users by reservation."""
        return {each.id: each.user for each in self._watcher.reservations(everybody=True)}

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = SOON) -> None:
        """Wait for something that only asking shows."""
        deadline = Deadline.after(seconds)
        pause = threading.Event()
        while not condition():
            assert not deadline.expired, what
            pause.wait(0.05)

    def wait_idle(self) -> None:
        """Wait until nobody holds anything and every board is ready."""
        self.wait(lambda: not self.holders(), "reservations are left")
        self.wait(lambda: self._ready() == BOARDS, "boards are lost")

    def _ready(self) -> int:
        return sum(
            each.fresh and each.report.state is DeviceState.READY
            for each in self._watcher.devices()
        )

    def close(self) -> None:
        self._watcher.close()


class RunningBatch:
    """Evaluations that go on, on a thread of their own, while a test lets something fail.

    Args:
        outcomes: of the library.
    """

    def __init__(self, outcomes: Iterator[PulseCountOutcome]) -> None:
        self._outcomes = outcomes
        self._changed = threading.Condition()
        self._seen: list[PulseCountOutcome] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            for outcome in self._outcomes:
                with self._changed:
                    self._seen.append(outcome)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._error = error

    @property
    def count(self) -> int:
        with self._changed:
            return len(self._seen)

    def wait(self, more: int) -> None:
        """Wait for so many more outcomes."""
        with self._changed:
            wanted = len(self._seen) + more
            assert self._changed.wait_for(lambda: len(self._seen) >= wanted, SOON), self._error

    def done(self) -> list[PulseCountOutcome]:
        """All outcomes, once there are no more to come."""
        self._thread.join(SOON)
        assert not self._thread.is_alive(), f"it hangs after {self.count} outcomes"
        if self._error is not None:
            raise self._error
        return self._seen


def start_map(boards: Boards, population: list[Individual]) -> RunningBatch:
    """Each on whichever board is free."""
    return RunningBatch(boards.map_outcomes(population, args=MEASUREMENT))


def start_evaluate(boards: Boards, population: list[Individual]) -> RunningBatch:
    """Each on every board."""
    return RunningBatch(boards.evaluate_outcomes(population, args=MEASUREMENT))


def check(
    outcomes: list[PulseCountOutcome], population: list[Individual], on: list[str]
) -> Counter[str]:
    """Exactly one outcome each, and every count right; returns the codes of failures.

    Args:
        outcomes: that there were.
        population: that was given.
        on: the boards that each was to be evaluated on; none where any would do.
    """
    expected = Counter((name.name, serial) for name in population for serial in on or [""])
    found = Counter((each.bitstream, each.serial if on else "") for each in outcomes)
    assert found == expected
    wanted = {each.name: each.counts(WINDOW) for each in population}
    failures: Counter[str] = Counter()
    for each in outcomes:
        if isinstance(each, PulseCountResult):
            assert each.pulses in wanted[each.bitstream], each
        else:
            failures[each.error.code] += 1
    return failures


CLIENT_PROGRAM = """
import sys
from bench.population import population
from icebus.client import PulseCountClient
from icebus.client._connection import connection
connection.STATE_INTERVAL = 1.0  # a minute is too long for a test
client = PulseCountClient()
held = client.reserve(1, detached=sys.argv[1] == "detached")
for result in held.map(population(sys.maxsize), args={"window": float(sys.argv[2])}):
    print(held.id, result.evaluation, result.pulses, flush=True)
"""


def start_client(lab: Lab, user: str, how: str) -> tuple[subprocess.Popen[str], str]:
    """A process that evaluates on a board for ever, and its reservation.

    It says what it got: the reservation, the evaluation, and what was counted.
    """
    url = lab.farm.admit(Principal(id=user, role=Role.USER))
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT_PROGRAM, how, str(WINDOW)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={"ICEBUS_URL": url, "PYTHONPATH": ":".join(sys.path)},
    )
    assert process.stdout is not None
    return process, process.stdout.readline().split()[0]


@pytest.fixture(scope="session")
def shared_lab(tmp_path_factory: pytest.TempPathFactory, broker_class: object) -> Iterator[Lab]:
    """The farm of this process."""
    shape = Shape(BOARDS, WINDOW, workers=2)
    directory = tmp_path_factory.mktemp("lab")
    options = ["--grace", str(GRACE), "--heartbeat", str(HEARTBEAT)]
    farm = Farm(shape, directory, options, faulty=True)
    try:
        made = Lab(farm)
        try:
            yield made
        finally:
            made.close()
    finally:
        farm.stop()


@pytest.fixture
def lab(shared_lab: Lab) -> Iterator[Lab]:
    """The farm, idle and ready, and to be left so."""
    shared_lab.wait_idle()
    yield shared_lab
    shared_lab.wait_idle()


@pytest.fixture
def ann(lab: Lab) -> Iterator[PulseCountClient]:
    """Somebody who evaluates."""
    with lab.user("ann") as client:
        yield client


@pytest.fixture
def ben(lab: Lab) -> Iterator[PulseCountClient]:
    """Somebody else."""
    with lab.user("ben") as client:
        yield client
