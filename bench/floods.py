"""One user's evaluations beside another user's flood, on every topic that users may write."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.evaluations import Run, WrongCountError, latency, run
from bench.farm import Farm
from bench.flood_topics import Flood
from bench.flooder import BEGINS
from bench.held_topics import Held, HeldFlood
from bench.measure import Measure
from bench.population import population
from icebus.broker.access import Principal
from icebus.broker.process import Child
from icebus.client import EvaluationsFailed, PulseCountClient
from icebus.client.kinds.pulsecount import Boards
from icebus.schemas.deadline import Deadline
from icebus.schemas.topics import Role

RATES = (100, 1_000, 0)
"""Messages a second; 0 for as many as the broker takes."""

LARGE = 1_900_000
"""Bytes of a large message: nearly what brokers take."""

FLOODER = "mallory"

BEFORE = 1.0
"""Seconds that a flood lasts before the evaluations begin."""

START_DEADLINE = 60.0
STOP_DEADLINE = 10.0


@dataclass(frozen=True)
class Case:
    """One flood."""

    kind: Flood | HeldFlood
    rate: int
    size: int = 0
    qos: int = 0
    held: Held | None = None

    def __str__(self) -> str:
        rate = f"{self.rate:,}/s" if self.rate else "unthrottled"
        size = f", {self.size / 1e6:.1f} MB each" if self.size else ""
        quality = ", QoS 1" if self.qos else ""
        kind = f"{self.kind.value} of boards held" if self.held else self.kind.value
        return f"{kind}, {rate}{size}{quality}"


def cases() -> Iterator[Case]:
    """All floods: each topic at each rate, without limit at both qualities, and in large."""
    for kind in Flood:
        for rate in RATES:
            yield Case(kind, rate)
        yield Case(kind, 0, qos=1)
        yield Case(kind, 0, size=LARGE)


def held_cases(held: Held) -> Iterator[Case]:
    """All floods of somebody who holds boards of the same worker."""
    for kind in HeldFlood:
        for rate in RATES:
            yield Case(kind, rate, held=held)
        yield Case(kind, 0, qos=1, held=held)


def floods(farm: Farm, client: PulseCountClient, size: int) -> Iterator[Measure]:
    """What a run gets done beside each flood, as a part of what it does without.

    First the flooder holds nothing, then half of the boards.

    Args:
        farm: to flood.
        client: of the user who evaluates.
        size: evaluations of a run.
    """
    url = farm.admit(Principal(id=FLOODER, role=Role.ADMIN))
    with client.reserve(farm.shape.boards) as boards:
        first = 0
        for _ in range(2):  # the first loads what is loaded once
            alone, failures = _run(farm, boards, size, first)
            first += size
        yield from _measures(farm, "no flood", alone, failures, None)
        for case in cases():
            yield from _beside(farm, boards, url, case, (size, first), alone)
            first += size
    half = farm.shape.boards // 2
    with client.reserve(half) as boards, PulseCountClient(url) as flooder:
        alone, failures = _run(farm, boards, size, first)
        first += size
        yield from _measures(farm, f"no flood, {half} boards", alone, failures, None)
        with flooder.reserve(half) as theirs:
            for case in held_cases(Held(theirs.id, tuple(theirs.serials))):
                yield from _beside(farm, boards, url, case, (size, first), alone)
                first += size


def _beside(
    farm: Farm,
    boards: Boards,
    url: str,
    case: Case,
    individuals: tuple[int, int],
    alone: Run | None,
) -> Iterator[Measure]:
    forget_peaks(farm)
    with flooding(farm, url, case) as child:
        time.sleep(BEFORE)
        beside, failures = _run(farm, boards, *individuals)
        ended = child.process.poll() is not None
    if ended:
        raise RuntimeError(f"the flood has ended: {farm.log('flood').read_text()}")
    yield from _measures(farm, str(case), beside, failures, alone)


def _run(farm: Farm, boards: Boards, size: int, first: int) -> tuple[Run | None, int]:
    """A run, and how many of its evaluations failed or counted wrongly."""
    try:
        return run(farm, boards, population(size, first=first), everywhere=False), 0
    except EvaluationsFailed as error:
        return None, len(error.failures)
    except WrongCountError:
        return None, size


def _measures(
    farm: Farm, name: str, done: Run | None, failures: int, alone: Run | None
) -> Iterator[Measure]:
    yield Measure(f"failures beside {name}", failures, "", 0)
    if done is not None:
        rate = len(done.results) / done.seconds
        yield Measure(f"evaluations beside {name}", rate, "/s")
        if alone is not None:
            part = rate / (len(alone.results) / alone.seconds)
            yield Measure(f"evaluations beside {name} / without", part, "×", 0.7, least=True)
        yield from latency(farm, done, f"beside {name}")
    for component in (*farm.controls, *farm.workers):
        peak, _threads = farm.memory(component)
        yield Measure(f"memory of {component} beside {name}", peak, "MiB", 300)
    yield Measure(f"memory of the broker beside {name}", farm.broker_memory(), "MiB")


def forget_peaks(farm: Farm) -> None:
    """Have the kernel count the most memory that each part takes anew."""
    for pid in farm.pids():
        Path(f"/proc/{pid}/clear_refs").write_text("5")


@contextmanager
def flooding(farm: Farm, url: str, case: Case) -> Iterator[Child]:
    """A flood for as long as the block lasts."""
    arguments = ["--rate", str(case.rate), "--size", str(case.size), "--qos", str(case.qos)]
    if case.held is not None:
        arguments += ["--held", str(case.held)]
    argv = [sys.executable, "-m", "bench.flooder", case.kind.value, *arguments]
    log = farm.log("flood")
    log.unlink(missing_ok=True)
    child = Child(argv, log, {"ICEBUS_BROKER": url})
    try:
        _wait_begun(child, log)
        yield child
    finally:
        child.process.send_signal(signal.SIGTERM)
        child.stop(Deadline.after(STOP_DEADLINE))


def _wait_begun(child: Child, log: Path) -> None:
    deadline = Deadline.after(START_DEADLINE)
    while BEGINS not in log.read_text():
        if child.process.poll() is not None or deadline.expired:
            raise RuntimeError(f"the flood does not begin: {log.read_text()}")
        time.sleep(0.01)


def sent(farm: Farm) -> int:
    """How many messages the last flood has sent, once it has ended."""
    log = farm.log("flood")
    found = re.findall(r"^\d+$", log.read_text(), re.MULTILINE) if log.exists() else []
    return int(found[-1]) if found else 0
