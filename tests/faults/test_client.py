"""Clients die, blink, and share a name."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.conftest import GRACE, check, evaluating, mapping, some

from icebus.broker.access import Principal
from icebus.schemas.topics import Role

if TYPE_CHECKING:
    from tests.faults.conftest import Lab

    from icebus.client import PulseCountClient

HOLD = """
import sys
from bench.population import population
from icebus.client import PulseCountClient, link
link.REPEAT = 1.0  # a minute is too long for a test
client = PulseCountClient()
held = client.reserve(1, detached=sys.argv[1] == "detached")
for result in held.map(population(sys.maxsize)):
    print(held.id, flush=True)
"""


def holding(lab: Lab, here: Path, user: str, how: str) -> tuple[subprocess.Popen[str], str]:
    """A process that evaluates on a board for ever, and its reservation."""
    url = lab.farm.admit(Principal(id=user, role=Role.USER))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, how],
        stdout=subprocess.PIPE,
        text=True,
        cwd=here,
        env={"ICEBUS_URL": url, "PYTHONPATH": ":".join(sys.path)},
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_given_clients_killed_then_after_the_grace_what_was_attached_is_free_and_no_more(
    lab: Lab, here: Path, ben: PulseCountClient
) -> None:
    attached, hers = holding(lab, here, "ann", "attached")
    detached, his = holding(lab, here, "ben", "detached")
    assert {hers, his} <= lab.holders().keys()
    for process in (attached, detached):
        process.kill()
        process.communicate()
    killed = time.monotonic()
    lab.wait(lambda: hers not in lab.holders(), "it is not freed")
    assert time.monotonic() - killed >= GRACE - 1
    with ben.attach(his) as found:
        population = some(20)
        assert not check(mapping(found, population).done(), population, [])
        found.release()


def test_given_a_client_that_blinks_again_and_again_then_it_keeps_all_and_misses_nothing(
    lab: Lab, ann: PulseCountClient
) -> None:
    with ann.reserve(3) as boards:
        population = some(60)
        work = evaluating(boards, population)
        for _ in range(3):
            work.wait(20)
            lab.network.cut("ann")
        assert not check(work.done(), population, boards.serials)
        assert boards.ended is None


def test_given_two_clients_of_one_name_then_neither_takes_the_others(
    lab: Lab, ann: PulseCountClient
) -> None:
    with ann.reserve(2) as mine:
        with lab.user("ann") as twin:
            hers = twin.reserve(2)
            first, second = some(60), some(60)
            one, two = mapping(mine, first), mapping(hers, second)
            assert not check(one.done(), first, [])
            assert not check(two.done(), second, [])
            assert set(mine.serials).isdisjoint(hers.serials)
        lab.wait(lambda: hers.id not in lab.holders(), "the other's is left")
        assert mine.ended is None
        assert mine.id in lab.holders()


def test_given_a_client_that_dies_with_the_broker_then_what_was_attached_is_free_all_the_same(
    lab: Lab, here: Path
) -> None:
    process, hers = holding(lab, here, "ann", "attached")
    saved = lab.farm.broker.directory / "mosquitto.db"
    saved.unlink(missing_ok=True)
    lab.farm.broker.child.process.send_signal(signal.SIGUSR1)
    lab.wait(lambda: saved.exists() and bool(saved.stat().st_size), "Mosquitto has not saved")
    lab.kill_broker(forget=False)
    process.kill()
    process.communicate()
    lab.start_broker()
    lab.wait(lambda: hers not in lab.holders(), "it is not freed")
