"""Workers die or freeze while people evaluate on their boards."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

from tests.faults.conftest import HEARTBEAT, check, some, start_evaluate, start_map

if TYPE_CHECKING:
    from tests.faults.conftest import Lab

    from icebus.client import PulseCountClient

EXPLAINED = {"device_failed", "device_not_serving", "worker_lost", "worker_restarted"}


def test_given_workers_killed_in_turn_then_each_evaluation_has_one_outcome(
    lab: Lab, ann: PulseCountClient, ben: PulseCountClient
) -> None:
    with ann.reserve(3) as hers, ben.reserve(3) as his:
        mapped, evaluated = some(150), some(60)
        on_any, on_each = start_map(hers, mapped), start_evaluate(his, evaluated)
        for worker in lab.farm.workers:
            on_any.wait(15)
            with lab.without(worker):
                pass
        assert not check(on_any.done(), mapped, [])
        assert check(on_each.done(), evaluated, his.serials).keys() <= EXPLAINED


def test_given_a_worker_frozen_for_longer_than_it_is_waited_for_then_others_do_its_work(
    lab: Lab, ann: PulseCountClient
) -> None:
    with ann.reserve(4) as boards:
        assert {device.worker for device in boards.document.devices} == set(lab.farm.workers)
        population = some(100)
        running = start_map(boards, population)
        running.wait(10)
        process = lab.farm.process("worker0")
        process.send_signal(signal.SIGSTOP)
        try:
            running.wait(20)
            threading.Event().wait(4 * HEARTBEAT)  # it is missed after three
        finally:
            process.send_signal(signal.SIGCONT)
        assert not check(running.done(), population, [])
