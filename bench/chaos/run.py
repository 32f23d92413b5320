"""A run of chaos: clients work while things fail; then all is mended, and looked at."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path

from bench.chaos.account import Chaos, say
from bench.chaos.agenda import Agenda
from bench.chaos.audit import Audit
from bench.chaos.damage import Damage
from bench.chaos.faults import Fault, schedule
from bench.chaos.health import resources
from bench.chaos.holders import Witness
from bench.chaos.parts import Parts
from bench.farm import USER, Farm, Shape
from icebus.broker.access import Principal
from icebus.client import PulseCountClient
from icebus.schemas.deadline import Deadline
from icebus.schemas.message import now
from icebus.schemas.topics import Role

WARM = 5.0
"""Seconds that clients work before what the parts use is noted."""

FINISH = 150.0
"""Seconds for clients to end their runs once nothing fails any more: the library gives up boards
that do not return after 60 s, and there may be one run after another."""

LINGER = 5.0
"""Seconds after which helper threads of an idle part have ended."""

RESTART = 1.0
"""Seconds after which a part that ended by itself is started again, as a service manager does."""

AUDITOR = "auditor"


class Run:
    """What happens to a farm and its clients. Everything is started on one thread.

    Args:
        parts: of the farm.
        damage: to be done to them.
        audit: of the farm, in the end.
        chaos: the account to fill.
    """

    def __init__(self, parts: Parts, damage: Damage, audit: Audit, chaos: Chaos) -> None:
        self._parts = parts
        self._damage = damage
        self._audit = audit
        self._chaos = chaos
        self._agenda = Agenda(self._supervise)

    def live(self, faults: list[Fault], seconds: float) -> None:
        """Let clients work and things fail; then mend all, and let clients finish."""
        for name in self._parts.clients:
            self._parts.start(name)
        self._agenda.wait(WARM)
        for name in self._parts.servers:
            used = resources(self._parts.pid(name))
            self._chaos.use[name] = used, used
        begun = time.monotonic()
        for fault in faults:
            self._agenda.at(begun + fault.at, partial(self._begin, fault))
        self._agenda.finish(begun + seconds)
        say("all is mended; clients finish")
        mended = now()
        self._finish()
        self._audit.farm(mended, self._agenda.wait)
        self._agenda.wait(LINGER)
        self._audit.leaks()

    def _begin(self, fault: Fault) -> None:
        say(f"{fault.at:7.1f} s  {fault}")
        self._chaos.faults.append(fault)
        mend = self._damage.do(fault)
        if mend is not None:
            self._agenda.after(fault.seconds, mend)

    def _finish(self) -> None:
        self._parts.finish()
        deadline = Deadline.after(FINISH)
        while self._parts.working and not deadline.expired:
            self._agenda.wait(0.5)
        for name in self._parts.working:
            self._parts.process(name).send_signal(signal.SIGABRT)
            self._chaos.breaks(f"{name} hangs: it has not finished in {FINISH:g} s")

    def _supervise(self) -> None:
        """Start again what ended by itself, and remember that it did."""
        for name, text in self._parts.died():
            say(f"           {name} ended by itself, {text}")
            self._chaos.ends.setdefault(name, []).append(text)
            self._agenda.after(RESTART, partial(self._parts.start, name))


def unleash(seed: int, seconds: float, shape: Shape, clients: int, directory: Path) -> Chaos:
    """Run chaos on a farm in a directory; everything it leaves there is for people to read."""
    chaos = Chaos(seed)
    controls = f"{shape.controls} controls, " if shape.controls > 1 else ""
    say(f"seed {seed}: {shape.boards} boards, {shape.workers} workers, {controls}{clients} clients")
    farm = Farm(shape, directory, faulty=True)
    try:
        with PulseCountClient(farm.broker.address(USER).url()) as client:
            farm.wait_ready(client)
        parts = Parts(farm, directory, clients)
        try:
            _live(chaos, parts, seconds)
        finally:
            parts.stop_clients()
    finally:
        farm.stop()
    return chaos


def _live(chaos: Chaos, parts: Parts, seconds: float) -> None:
    farm = parts.farm
    assert farm.network is not None  # noqa: S101
    farm.admit(Principal(id=AUDITOR, role=Role.CONTROL))
    auditor = farm.broker.address(AUDITOR)
    damage = Damage(parts, farm.network)
    audit = Audit(chaos, parts, damage.serials, auditor)
    faults = schedule(chaos.seed, seconds, parts.targets, farm.shape.boards // farm.shape.workers)
    witness = Witness(auditor)
    try:
        Run(parts, damage, audit, chaos).live(faults, seconds)
        audit.history(witness.seen)
    finally:
        witness.close()
        parts.stop_clients()
        audit.ledgers()
        audit.logs()
