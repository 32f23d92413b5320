"""``python -m bench``: all numbers, in one table."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench.evaluations import overhead, paced, throughput
from bench.farm import Farm, Shape, running
from bench.floods import floods
from bench.history import history
from bench.machine import machine
from bench.measure import Measure
from bench.postgresql import programs
from bench.reservations import reserve
from bench.roundtrip import roundtrip
from bench.table import show
from icebus.client import PulseCountClient

BOARDS = (1, 8, 32)


class Part(StrEnum):
    """What can be measured by itself."""

    THROUGHPUT = "throughput"
    RESERVE = "reserve"
    ROUNDTRIP = "roundtrip"
    OVERHEAD = "overhead"
    PACED = "paced"
    WORKERS = "workers"
    FLOODS = "floods"
    HISTORY = "history"


def short(directory: Path, parts: set[Part]) -> Iterator[Measure]:
    """What is measured with windows of 50 ms, where everything but the boards has most to do."""
    for boards in BOARDS:
        with running(Shape(boards, 0.05), directory / f"short{boards}", say) as farm:
            with connected(farm) as client:
                if Part.THROUGHPUT in parts:
                    yield from throughput(farm, client, 50 * boards)
                if boards == max(BOARDS):
                    yield from _around(farm, client, parts)
            if Part.THROUGHPUT in parts and boards == max(BOARDS):
                memory, threads = farm.memory("worker0")
                yield Measure("worker memory, 32 boards", memory, "MiB", 77, incumbent="77")
                yield Measure("worker threads, 32 boards", threads, "", incumbent="63")


def _around(farm: Farm, client: PulseCountClient, parts: set[Part]) -> Iterator[Measure]:
    if Part.RESERVE in parts:
        for boards in BOARDS:
            yield from reserve(farm, client, boards, rounds=20)
    if Part.ROUNDTRIP in parts:
        yield from roundtrip(farm, client, 1000)


def two_workers(directory: Path) -> Iterator[Measure]:
    """The same boards, owned by two workers."""
    with (
        running(Shape(max(BOARDS), 0.05, workers=2), directory / "two", say) as farm,
        connected(farm) as client,
    ):
        yield from throughput(farm, client, 50 * max(BOARDS))


def whole(directory: Path) -> Iterator[Measure]:
    """What is measured with windows of a second, as real boards have."""
    with (
        running(Shape(max(BOARDS), 1.0), directory / "whole", say) as farm,
        connected(farm) as client,
    ):
        for boards in BOARDS:
            yield from overhead(farm, client, boards, rounds=8)


def flooded(directory: Path) -> Iterator[Measure]:
    """What one user gets done while another floods the farm."""
    with running(Shape(8, 0.05), directory / "floods", say) as farm, connected(farm) as client:
        yield from floods(farm, client, 400)


def used(directory: Path) -> Iterator[Measure]:
    """What reserving takes on a farm that was used for long, with each database."""
    for server in (False, True):
        shape = Shape(8, 0.05, postgresql=server)
        if server and programs() is None:
            say("PostgreSQL is not installed: script/bootstrap --postgresql")
            continue
        with running(shape, directory / f"used{server:d}", say) as farm, connected(farm) as client:
            yield from history(farm, client, rounds=40)


def slow(directory: Path) -> Iterator[Measure]:
    """What is measured with a USB as slow as that of real boards."""
    for window, rounds in ((1.0, 20), (0.05, 100)):
        shape = Shape(8, window, 1e6)
        with running(shape, directory / f"slow{window}", say) as farm, connected(farm) as client:
            yield from paced(farm, client, rounds)


def connected(farm: Farm) -> PulseCountClient:
    """A client of the farm, once all its boards can be reserved."""
    client = PulseCountClient(farm.url)
    farm.wait_ready(client)
    return client


def say(text: str) -> None:
    """Tell what is going on."""
    sys.stderr.write(f"bench: {text}\n")


def measured(parts: set[Part], directory: Path) -> Iterator[Measure]:
    """All numbers of the parts asked for."""
    yield from machine()
    if parts & {Part.THROUGHPUT, Part.RESERVE, Part.ROUNDTRIP}:
        yield from short(directory, parts)
    steps: dict[Part, Callable[[Path], Iterator[Measure]]] = {
        Part.WORKERS: two_workers,
        Part.OVERHEAD: whole,
        Part.PACED: slow,
        Part.FLOODS: flooded,
        Part.HISTORY: used,
    }
    for part, step in steps.items():
        if part in parts:
            yield from step(directory)


def main(
    parts: Annotated[
        list[Part] | None, typer.Argument(help="What to measure; all by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Measure farms of virtual boards on this machine.

    Every farm is brought up as in a lab, each part a process, on loopback; bitstreams are all
    distinct and every count is checked. Close other programs: all of it shares the CPUs.
    """
    with tempfile.TemporaryDirectory(prefix="icebus-bench-") as directory:
        measures = list(measured(set(parts or Part), Path(directory)))
    show(measures, as_json=as_json)


if __name__ == "__main__":
    typer.run(main)
