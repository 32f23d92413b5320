"""A run of chaos: clients evaluate while parts fail; then everything is repaired and checked."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path

from bench.chaos.faults import Fault, schedule
from bench.chaos.health import resources
from bench.chaos.holds import HoldObserver
from bench.chaos.injector import FaultInjector
from bench.chaos.parts import Parts
from bench.chaos.promises import PromiseChecks
from bench.chaos.summary import Summary, print_progress
from bench.chaos.timers import Timers
from bench.farm import USER, Farm, Shape
from icebus.broker.access import Principal
from icebus.client import PulseCountClient
from icebus.schemas.deadline import Deadline
from icebus.schemas.message import now
from icebus.schemas.topics import Role

WARM_UP = 5.0
"""Seconds that clients evaluate before the use of resources is first measured."""

FINISH_TIMEOUT = 150.0
"""Seconds for clients to end their runs once nothing fails any more: the library gives up boards
that do not return after 60 s, and there may be one run after another."""

THREADS_END = 5.0
"""Seconds after which helper threads of an idle part have ended."""

RESTART_AFTER = 1.0
"""Seconds after which a part that ended by itself is started again, as a service manager does."""

OBSERVER = "observer"


class Run:
    """One run on a farm. All that it does is done on one thread.

    Args:
        parts: of the farm.
        injector: of faults into them.
        checks: of the farm, at the end.
        summary: to be filled in.
    """

    def __init__(
        self, parts: Parts, injector: FaultInjector, checks: PromiseChecks, summary: Summary
    ) -> None:
        self._parts = parts
        self._injector = injector
        self._checks = checks
        self._summary = summary
        self._timers = Timers(self._restart_ended)

    def execute(self, faults: list[Fault], seconds: float) -> None:
        """Let clients evaluate while parts fail; then repair everything and check the promises."""
        for name in self._parts.clients:
            self._parts.start(name)
        self._timers.wait(WARM_UP)
        for name in self._parts.servers:
            used = resources(self._parts.pid(name))
            self._summary.resources[name] = used, used
        begun = time.monotonic()
        for fault in faults:
            self._timers.at(begun + fault.at, partial(self._inject, fault))
        self._timers.run_all(begun + seconds)
        print_progress("everything is repaired; clients finish")
        repaired = now()
        self._finish()
        self._checks.check_farm(repaired, self._timers.wait)
        self._timers.wait(THREADS_END)
        self._checks.check_leaks()

    def _inject(self, fault: Fault) -> None:
        print_progress(f"{fault.at:7.1f} s  {fault}")
        self._summary.faults.append(fault)
        repair = self._injector.inject(fault)
        if repair is not None:
            self._timers.after(fault.seconds, repair)

    def _finish(self) -> None:
        self._parts.finish()
        deadline = Deadline.after(FINISH_TIMEOUT)
        while self._parts.running_clients and not deadline.expired:
            self._timers.wait(0.5)
        for name in self._parts.running_clients:
            self._parts.process(name).send_signal(signal.SIGABRT)
            self._summary.add_broken(f"{name} hangs: it has not finished in {FINISH_TIMEOUT:g} s")

    def _restart_ended(self) -> None:
        """Start again what ended by itself, and note that it did."""
        for name, text in self._parts.ended():
            print_progress(f"           {name} ended by itself, {text}")
            self._summary.ended.setdefault(name, []).append(text)
            self._timers.after(RESTART_AFTER, partial(self._parts.start, name))


def run_chaos(seed: int, seconds: float, shape: Shape, clients: int, directory: Path) -> Summary:
    """Bring up a farm, let parts of it fail, and check its promises.

    Args:
        seed: decides what fails when.
        seconds: that parts fail for.
        shape: of the farm.
        clients: how many evaluate.
        directory: for logs and records, which stay there.
    """
    summary = Summary(seed)
    controls = f", {shape.controls} controls" if shape.controls > 1 else ""
    size = f"{shape.boards} boards, {shape.workers} workers, {clients} clients"
    print_progress(f"seed {seed}: {size}{controls}")
    farm = Farm(shape, directory, faulty=True)
    try:
        with PulseCountClient(farm.broker.address(USER).url()) as client:
            farm.wait_ready(client)
        parts = Parts(farm, directory, clients)
        try:
            _run_on(parts, summary, seconds)
        finally:
            parts.stop_clients()
    finally:
        farm.stop()
    return summary


def _run_on(parts: Parts, summary: Summary, seconds: float) -> None:
    farm = parts.farm
    assert farm.network is not None  # noqa: S101
    farm.admit(Principal(id=OBSERVER, role=Role.CONTROL))
    observer = farm.broker.address(OBSERVER)
    injector = FaultInjector(parts, farm.network)
    checks = PromiseChecks(summary, parts, injector.serials, observer)
    faults = schedule(summary.seed, seconds, parts.targets, farm.shape.boards // farm.shape.workers)
    holds = HoldObserver(observer)
    try:
        Run(parts, injector, checks, summary).execute(faults, seconds)
        checks.check_history(holds.published)
    finally:
        holds.close()
        parts.stop_clients()
        checks.check_records()
        checks.count_log_errors()
