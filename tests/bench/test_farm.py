"""Farms of the bench: several controls are one farm, and all parts end when they are told to."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from bench.chaos.faults import Fault, FaultType
from bench.chaos.injector import FaultInjector
from bench.chaos.parts import Parts
from bench.farm import Farm, Shape
from bench.postgresql import PostgresServer
from icebus.client import PulseCountClient
from icebus.schemas.deadline import Deadline

pytestmark = pytest.mark.slow

BOARDS = 2


def wait_until_it_says(log: Path, words: str) -> None:
    deadline = Deadline.after(60)
    pause = threading.Event()
    while words not in log.read_text():
        assert not deadline.expired, log.read_text()
        pause.wait(0.05)


@pytest.mark.timeout(180)
def test_given_two_controls_when_one_is_gone_and_their_database_dies_then_the_farm_works(
    tmp_path: Path, postgresql: PostgresServer, broker_class: object
) -> None:
    farm = Farm(Shape(BOARDS, 0.05, controls=2), tmp_path, faulty=True)
    try:
        assert farm.network is not None
        parts = Parts(farm, tmp_path, clients=0)
        injector = FaultInjector(parts, farm.network)
        with PulseCountClient(farm.url) as client:
            farm.wait_ready(client)
            for name in farm.controls:
                wait_until_it_says(farm.log(name), "serves")
            injector.inject(Fault(0, farm.controls[0], FaultType.KILL, 1))
            repair = injector.inject(Fault(0, "database", FaultType.KILL, 1))
            assert repair is not None
            repair()
            farm.wait_ready(client)
            with client.reserve(BOARDS, timeout=60) as held:
                assert len(held.serials) == BOARDS
        assert [name for name, _ in parts.ended()] == []
    finally:
        farm.stop()


@pytest.mark.timeout(120)
def test_given_a_signal_that_reaches_any_thread_when_told_to_stop_then_each_part_ends_in_order(
    tmp_path: Path, broker_class: object
) -> None:
    farm = Farm(Shape(1, 0.05), tmp_path)
    try:
        with PulseCountClient(farm.url) as client:
            farm.wait_ready(client)
        for name in ("worker0", "control", "rack0"):
            process = farm.process(name)
            threads = {int(each.name) for each in Path(f"/proc/{process.pid}/task").iterdir()}
            os.kill(max(threads - {process.pid}), signal.SIGTERM)  # Linux hands it to that thread
            assert process.wait(30) == 0
    finally:
        farm.stop()
