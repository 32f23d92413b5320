"""Evaluating: how much of the boards' time is used, and what it costs."""

from __future__ import annotations

import itertools
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.farm import Farm
from bench.measure import Measure, median, quantile
from bench.population import CLOCK, LATE, Individual, population
from icebus.client import PulseCountClient, PulseCountResult
from icebus.client.kinds.pulsecount import Boards

OVERHEAD = {1: ("3", 1.0), 8: ("5–7", 2.0), 32: ("15–27", 4.0)}
"""Incumbent's and ours, in ms, by boards."""


class WrongCountError(Exception):
    """A board counted what its circuit can't give: no number is worth anything then."""


@dataclass(frozen=True)
class Run:
    """One run of a population.

    Attributes:
        results: with when they were in the caller's hands (seconds since the epoch).
        seconds: it took.
        used: CPU seconds by part of the farm.
        client: CPU seconds of this process.
    """

    results: list[tuple[PulseCountResult, float]]
    seconds: float
    used: dict[str, float]
    client: float

    def cpu(self, part: str) -> float:
        """CPU milliseconds for one evaluation in all parts whose name begins so."""
        used = sum(value for name, value in self.used.items() if name.startswith(part))
        return used / len(self.results) * 1e3

    @property
    def simulation(self) -> float:
        """CPU milliseconds of the simulation of one FPGA."""
        used = sum(value for name, value in self.used.items() if name.endswith("simulation"))
        return used / len(self.results) * 1e3


def run(farm: Farm, boards: Boards, individuals: Iterable[Individual], *, everywhere: bool) -> Run:
    """Evaluate a population and check every count.

    Args:
        farm: that the boards belong to.
        boards: to use.
        individuals: to evaluate.
        everywhere: on every board, instead of each on whichever is free.
    """
    individuals = list(individuals)
    steps = {each.name: each for each in individuals}
    before, client, begun = farm.usage(), time.process_time(), time.monotonic()
    args = farm.shape.measurement
    if everywhere:
        found = boards.evaluate(individuals, args=args)
    else:
        found = boards.map(individuals, args=args)
    results = [(result, time.time()) for result in found]
    seconds, client = time.monotonic() - begun, time.process_time() - client
    used = {name: value - before[name] for name, value in farm.usage().items()}
    for result, _ in results:
        _check(result, steps[result.bitstream], farm.shape.window)
    expected = len(individuals) * (len(boards.serials) if everywhere else 1)
    if len({result.evaluation for result, _ in results}) != expected:
        raise WrongCountError(f"{len(results)} results for {expected} evaluations")
    return Run(results, seconds, used, client)


def _check(result: PulseCountResult, individual: Individual, window: float) -> None:
    possible = individual.counts(window)
    if not result.exact or result.pulses not in possible:
        raise WrongCountError(
            f"{result.bitstream} on {result.serial}: {result.pulses} pulses, not {possible}"
        )


def overhead(farm: Farm, client: PulseCountClient, boards: int, rounds: int) -> Iterator[Measure]:
    """Wall time of an evaluation less window (on average half a millisecond short) and upload.

    A board's evaluations follow one another, so the time between two results is what one took. Of
    a board's, the mean counts; of several boards', the mean of those.
    """
    with client.reserve(boards) as held:
        done = run(farm, held, population(rounds * boards), everywhere=False)
    window = farm.shape.window - LATE / CLOCK / 2
    spent = [
        (later - earlier).total_seconds() - window - upload
        for mine in _by_board(done).values()
        for (earlier, _), (later, upload) in itertools.pairwise(mine)
    ]
    uploads = [result.upload for result, _ in done.results]
    yield Measure(
        f"upload, {farm.shape.window:g} s window, {_number(boards)}, unpaced, p50",
        median(uploads) * 1e3,
        "ms",
    )
    incumbent, target = OVERHEAD[boards]
    yield Measure(
        f"overhead, {farm.shape.window:g} s window, {_number(boards)}",
        sum(spent) / len(spent) * 1e3,
        "ms",
        target,
        incumbent=incumbent,
    )


def paced(farm: Farm, client: PulseCountClient, rounds: int) -> Iterator[Measure]:
    """How much of the time boards measure with a real one's USB and time to configure."""
    boards = farm.shape.boards
    with client.reserve(boards) as held:
        done = run(farm, held, population(rounds * boards), everywhere=False)
    megabytes = farm.shape.bandwidth / 1e6
    yield Measure(
        f"utilisation, {_number(boards)}, {farm.shape.window:g} s window, paced {megabytes:g} MB/s",
        utilisation(farm, done),
        "",
        0.955 if farm.shape.window >= 1 else 0.55,
        least=True,
        incumbent="0.90" if farm.shape.window >= 1 else "",
    )


def utilisation(farm: Farm, done: Run) -> float:
    """How much of the time boards measure, from the first bitstream given to the last result."""
    return len(done.results) * farm.shape.window / (farm.shape.boards * done.seconds)


def throughput(farm: Farm, client: PulseCountClient, size: int) -> Iterator[Measure]:
    """As many short measurements as the farm can do, and what each costs."""
    boards = farm.shape.boards
    with client.reserve(boards) as held:
        run(farm, held, population(2 * boards), everywhere=False)  # what is loaded once
        done = run(farm, held, population(size, first=2 * boards), everywhere=False)
    shape = f"{_number(boards)}, {farm.shape.window * 1e3:g} ms window"
    if len(farm.workers) > 1:
        shape += f", {len(farm.workers)} workers"
    hard = boards == 32
    yield Measure(
        f"utilisation, {shape}, unpaced",
        utilisation(farm, done),
        "",
        0.85 if hard else None,
        least=True,
        incumbent="0.17–0.25" if hard else "",
    )
    yield Measure(
        f"evaluations, {shape}",
        len(done.results) / done.seconds,
        "/s",
        540 if hard else None,
        least=True,
        incumbent="100–158" if hard else "",
    )
    yield Measure(f"worker CPU, {shape}", done.cpu("worker"), "ms", 1.0, incumbent="5–11")
    yield Measure(f"client CPU, {shape}", done.client / len(done.results) * 1e3, "ms")
    yield Measure(f"broker CPU, {shape}", done.cpu("broker"), "ms")
    yield Measure(f"rack CPU, {shape}", done.cpu("rack") - done.simulation, "ms")
    yield Measure(f"simulation CPU, {shape}", done.simulation, "ms")
    yield from latency(farm, done, shape)


_REPORT = re.compile(r"^(\S+ \S+) DEBUG .*: (\w+) reports ", re.MULTILINE)


def latency(farm: Farm, done: Run, shape: str) -> Iterator[Measure]:
    """From a board's report, as its rack logs it, to the result in the caller's hands."""
    arrived: dict[str, list[float]] = defaultdict(list)
    for result, at in done.results:
        arrived[result.serial].append(at)
    reported = _reports(farm)
    waits = [
        at - said
        for serial, times in arrived.items()
        # The rack has logged earlier runs as well: this one's are the last.
        for said, at in zip(reported[serial][-len(times) :], times, strict=True)
    ]
    yield Measure(f"result in the client's hands, p50, {shape}", median(waits) * 1e3, "ms")
    yield Measure(
        f"result in the client's hands, p99, {shape}",
        quantile(waits, 0.99) * 1e3,
        "ms",
        10.0,
        incumbent="4,100; 9,500 at most",
    )


def _reports(farm: Farm) -> dict[str, list[float]]:
    """When each board reported, in seconds since the epoch."""
    found: dict[str, list[float]] = defaultdict(list)
    for number in range(farm.shape.workers):
        for at, serial in _REPORT.findall(farm.log(f"rack{number}").read_text()):
            local = datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f")  # noqa: DTZ007
            found[serial].append(local.astimezone(UTC).timestamp())
    return found


def _by_board(done: Run) -> dict[str, list[tuple[datetime, float]]]:
    """When the worker had each result of a board, and what its upload took."""
    boards: dict[str, list[tuple[datetime, float]]] = defaultdict(list)
    for result, _ in done.results:
        if result.at is not None:
            boards[result.serial].append((result.at, result.upload))
    return boards


def _number(boards: int) -> str:
    return "1 board" if boards == 1 else f"{boards} boards"
