"""A farm of several controls is one farm: it works without one of them, and after its database was
away."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bench.chaos.damage import Damage
from bench.chaos.faults import Fault, Kind
from bench.chaos.parts import Parts
from bench.farm import Farm, Shape
from bench.postgresql import PostgresServer
from icebus.client import PulseCountClient
from icebus.schemas.deadline import Deadline

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
        damage = Damage(parts, farm.network)
        with PulseCountClient(farm.url) as client:
            farm.wait_ready(client)
            for name in farm.controls:
                wait_until_it_says(farm.log(name), "serves")
            damage.do(Fault(0, farm.controls[0], Kind.KILL, 1))
            mend = damage.do(Fault(0, "database", Kind.KILL, 1))
            assert mend is not None
            mend()
            farm.wait_ready(client)
            with client.reserve(BOARDS, timeout=60) as held:
                assert len(held.serials) == BOARDS
        assert [name for name, _ in parts.died()] == []
    finally:
        farm.stop()
