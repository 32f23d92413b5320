"""Mapping on whole farms: nothing is lost when a worker is killed, and none is measured wrongly."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from icebus.broker.process import Child
from icebus.client import PulseCountClient, PulseCountResult
from icebus.client._profiles.farm_directory import profile_path
from icebus.schemas.deadline import Deadline

if TYPE_CHECKING:
    from tests.farm.conftest import Up

    from icebus.broker.embedded import EmbeddedBroker

WINDOW = 0.05
COUNTS = {"pulse_2khz.bin": 100, "pulse_8khz.bin": 400, "pulse_32khz.bin": 1600}
"""Pulses in the window, of which the real window of up to 1 ms less takes some."""


def right(name: str, pulses: int) -> bool:
    whole = COUNTS[name]
    return whole * (WINDOW - 0.0011) / WINDOW - 1 <= pulses <= whole


@pytest.fixture
def ann(farm: Up) -> Iterator[PulseCountClient]:
    """A user of the farm."""
    with PulseCountClient(farm=profile_path(farm.directory, "ann")) as client:
        yield client


@pytest.fixture
def two_workers(broker: EmbeddedBroker, tmp_path: Path) -> Iterator[dict[str, Child]]:
    """A farm of two workers, each with a rack of one board, on a broker that stands."""

    def run(name: str, principal: str, *arguments: str) -> Child:
        argv = [sys.executable, "-m", f"icebus.{name}.cli", *arguments]
        environment = {"ICEBUS_BROKER": broker.address(principal).url()} if principal else {}
        return Child(argv, tmp_path / f"{principal}{name}.log", environment)

    database = f"sqlite:///{tmp_path / 'control.db'}"
    started = {"control": run("control", "main", "--database", database, "--id", "main")}
    for number, worker in enumerate(("w1", "w2")):
        rack, state = tmp_path / f"rack-{worker}", tmp_path / worker
        options = ["--directory", str(rack), "--boards", "1", "--window", str(WINDOW)]
        started[f"rack-{worker}"] = run("rack", "", "run", *options, "--seed", str(number))
        started[worker] = run("worker", worker, "--rack", str(rack), "--directory", str(state))
    yield started
    for child in reversed(started.values()):
        child.stop(Deadline.after(10))


class Individual:
    """A file, and what makes this use of it unlike others."""

    def __init__(self, path: Path) -> None:
        self.data = path


@contextmanager
def killing(farm: Up, after: threading.Event) -> Iterator[None]:
    """Kills the worker once ``after`` is set; it is started again by what runs the farm."""

    def kill() -> None:
        assert after.wait(60)
        os.kill(farm.child("icebus.worker.cli"), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    thread.join(10)
    assert not thread.is_alive()


def test_given_a_population_when_mapped_on_a_farm_then_each_is_counted_once_and_rightly(
    farm: Up, ann: PulseCountClient, circuits: Sequence[Path]
) -> None:
    population = [Individual(path) for path in circuits for _ in range(20)]
    with ann.reserve(3) as boards:
        results = list(boards.map(population))
    assert {id(result.source) for result in results} == {id(each) for each in population}
    assert len(results) == len(population)
    assert all(r.bitstream == r.source.data.name for r in results)
    assert all(r.exact and right(r.bitstream, r.pulses) for r in results)
    assert len({result.serial for result in results}) == 3


def test_given_the_only_worker_killed_when_mapping_then_it_comes_back_and_nothing_is_lost(
    farm: Up, ann: PulseCountClient, circuits: Sequence[Path]
) -> None:
    population = [Individual(path) for path in circuits for _ in range(30)]
    begun = threading.Event()
    results: list[PulseCountResult] = []
    with ann.reserve(3) as boards, killing(farm, begun):
        for result in boards.map(population):
            results.append(result)
            if len(results) == 10:
                begun.set()
    assert len(results) == len(population)
    assert {id(result.source) for result in results} == {id(each) for each in population}
    assert all(right(result.bitstream, result.pulses) for result in results)


def test_given_two_workers_when_one_is_killed_for_good_then_the_other_goes_on_at_once(
    two_workers: dict[str, Child],
    broker: EmbeddedBroker,
    circuits: Sequence[Path],
) -> None:
    population = [Individual(path) for path in circuits for _ in range(15)]
    results: list[PulseCountResult] = []
    url = broker.address("alice").url()
    with PulseCountClient(url) as alice, alice.reserve(2, wait=60) as boards:
        owners = {device.serial: device.worker for device in boards.document.devices}
        for result in boards.map(population):
            results.append(result)
            if len(results) == 10:
                two_workers["w1"].process.kill()
                killed = time.monotonic()
            if len(results) == 20:
                assert time.monotonic() - killed < 10
    assert set(owners.values()) == {"w1", "w2"}
    assert {id(result.source) for result in results} == {id(each) for each in population}
    assert len(results) == len(population)
    assert {owners[result.serial] for result in results[20:]} == {"w2"}


def test_given_a_run_that_is_left_when_another_begins_then_boards_serve_that(
    farm: Up, ann: PulseCountClient, circuits: Sequence[Path]
) -> None:
    with ann.reserve(2) as boards:
        for _ in boards.map(itertools.repeat(circuits[0])):
            break
        results = list(itertools.islice(boards.map(itertools.repeat(circuits[1])), 20))
    assert {result.bitstream for result in results} == {circuits[1].name}


def test_given_files_when_mapped_by_command_then_each_has_one_row_in_the_order_given(
    farm: Up, circuits: Sequence[Path]
) -> None:
    names = [str(path) for path in circuits]
    rows = farm.machine.json("map", "-n", "2", *names)
    assert [row["file"] for row in rows] == names
    assert all(row["exact"] and right(row["bitstream"], row["pulses"]) for row in rows)
    lines = farm.machine.run("map", "-n", "2", *names, "-o", "csv").stdout.splitlines()
    assert lines[0].startswith("bitstream,serial,pulses,frequency,")
    assert {line.split(",")[0] for line in lines[1:]} == {path.name for path in circuits}
    streamed = farm.machine.run("map", "-n", "2", *names, "-o", "jsonl").stdout.splitlines()
    assert {json.loads(line)["bitstream"] for line in streamed} == {p.name for p in circuits}
    told = farm.machine.run("map", "-n", "2", *names, "-o", "name").stdout.splitlines()
    assert {line.split()[0] for line in told} == {path.name for path in circuits}
    assert farm.machine.json("reservations", "--all") == []


def test_given_a_broken_file_unvalidated_when_mapped_by_command_then_it_is_counted_as_refused(
    farm: Up, circuits: Sequence[Path], tmp_path: Path
) -> None:
    flipped = bytearray(circuits[0].read_bytes())
    flipped[50_000] ^= 4
    (tmp_path / "flipped.bin").write_bytes(bytes(flipped))
    done = farm.machine.run("map", str(tmp_path / "flipped.bin"))
    assert done.returncode == 6
    (row,) = farm.machine.json("map", "--no-validate", str(tmp_path / "flipped.bin"))
    assert (row["pulses"], row["cdone"]) == (0, False)
