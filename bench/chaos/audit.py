"""Looks at a farm in which nothing fails any more: is it as it was, and does it work?"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from bench.chaos.account import Chaos
from bench.chaos.health import leftovers, resources, retained
from bench.chaos.holders import Grant, contradictions
from bench.chaos.outcomes import audit, read, workplaces
from bench.chaos.parts import Parts
from bench.population import population
from bench.processes import cpu
from icebus.bus import BrokerAddress
from icebus.client import PulseCountClient
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import IcebusError
from icebus.schemas.history import HistoryEvent
from icebus.schemas.message import now
from icebus.schemas.reservations import KnownDevice

READY = 120.0
"""Seconds for the farm to be idle and ready, once clients have finished and boards that were broken
are looked at: they climb a ladder, and the broker forgets clients that died after a minute."""

ATTEMPT = 60.0
"""Seconds after the last repair in which an attempt on a board that began before may still fail."""

LONGEST_REST = 600.0
"""Seconds that a board may be left alone, as docs/architecture.md says: longer is lost."""

IDLE = 5.0
"""Seconds over which an idle farm's CPU is looked at."""

IDLE_CPU = 0.15
"""Of a core that a part of an idle farm may use."""

EVER = 1_000_000
"""Entries of the history, which is all of it."""

HISTORY_TIMEOUT = 60.0

_ERROR = re.compile(r"^(?:Traceback|.* (?:ERROR|CRITICAL) .*)")


class Audit:
    """The promises that a farm is held to after the last repair.

    Args:
        chaos: the account to fill.
        parts: of the farm.
        serials: of all boards.
        auditor: the broker's address, for one who may read what is retained.
    """

    def __init__(
        self, chaos: Chaos, parts: Parts, serials: list[str], auditor: BrokerAddress
    ) -> None:
        self._chaos = chaos
        self._parts = parts
        self._farm = parts.farm
        self._serials = serials
        self._auditor = auditor

    def farm(self, mended: datetime, wait: Callable[[float], None]) -> None:
        """Wait until all that is left is an idle farm; what else is left is a broken promise."""
        deadline = Deadline.after(READY)
        while True:
            wrong = list(self._wrong())
            if not wrong:
                self._chaos.ready = (now() - mended).total_seconds()
                break
            if deadline.expired and now() > self._rests_end(mended) + timedelta(seconds=READY):
                for each in wrong:
                    self._chaos.breaks(each)
                break
            wait(1.0)
        self._prove()
        self._idle(wait)

    def history(self, seen: set[Grant]) -> None:
        """Hold what control wrote down against itself, what was told, and who was served."""
        events = [HistoryEvent.RESERVED, HistoryEvent.RELEASED]
        try:
            with PulseCountClient(self._farm.url) as client:
                newest_first = client.history(events=events, limit=EVER, timeout=HISTORY_TIMEOUT)
        except IcebusError as error:
            self._chaos.breaks(f"the history can't be read: {error.message}")
            return
        ledgers = (read(self._parts.ledger(name)) for name in self._parts.clients)
        worked = {each for ledger in ledgers for each in workplaces(ledger)}
        for each in contradictions(reversed(newest_first), seen | worked):
            self._chaos.breaks(each)

    def ledgers(self) -> None:
        """Read what clients have written down."""
        chaos = self._chaos
        for name in self._parts.clients:
            account = audit(read(self._parts.ledger(name)), self._farm.shape.window)
            chaos.accounts[name] = account
            chaos.broken += [f"{name}: {text}" for text in account.broken]
            if account.last.get("what") == "finished" and account.last["threads"] > 1:
                chaos.broken.append(f"{name} has {account.last['threads']} threads in the end")

    def logs(self) -> None:
        """Count the errors in the logs."""
        for name in (*self._parts.servers[1:], *self._parts.clients):
            for line in self._parts.log(name).read_text(errors="replace").splitlines():
                if _ERROR.match(line):
                    self._chaos.errors[f"{name.rstrip('0123456789')}: {_gist(line)}"] += 1

    def leaks(self) -> None:
        """Hold what parts use against what they used at the beginning."""
        for name, (then, _) in self._chaos.use.items():
            used = resources(self._parts.pid(name))
            self._chaos.use[name] = then, used
            self._chaos.broken += [f"{name} has {leak}" for leak in used.leaks(then)]

    def _wrong(self) -> Iterator[str]:
        try:
            with PulseCountClient(self._farm.url) as client:
                devices = {each.report.serial: each for each in client.devices()}
                held = client.reservations(everybody=True)
        except IcebusError as error:
            yield f"control does not answer: {error.message}"
            return
        yield from (f"reservation {each.id} of {each.user} is left" for each in held)
        for serial in self._serials:
            yield from _not_ready(serial, devices.get(serial))
        yield from leftovers(retained(self._auditor), self._serials, self._parts.clients)

    def _rests_end(self, mended: datetime) -> datetime:
        """When the last board that was left alone while it was ill is looked at again."""
        last = mended
        try:
            with PulseCountClient(self._farm.url) as client:
                reports = [each.report for each in client.devices()]
        except IcebusError:
            return last
        for report in reports:
            ill = report.since < mended + timedelta(seconds=ATTEMPT)
            if ill and report.retry is not None and report.state is DeviceState.BROKEN:
                last = max(last, min(report.retry, mended + timedelta(seconds=LONGEST_REST)))
        return last

    def _prove(self) -> None:
        """Every board must evaluate one more bitstream, and rightly."""
        boards = self._farm.shape.boards
        (last,) = population(1)
        try:
            with PulseCountClient(self._farm.url) as client, client.reserve(boards) as held:
                results = list(held.evaluate([last]))
        except IcebusError as error:
            self._chaos.breaks(f"the farm does not work afterwards: {error.message}")
            return
        possible = last.counts(self._farm.shape.window)
        wrong = [each for each in results if each.pulses not in possible]
        if len(results) != boards or wrong:
            self._chaos.breaks(f"{len(results)} of {boards} boards count afterwards: {wrong}")

    def _idle(self, wait: Callable[[float], None]) -> None:
        begun = time.monotonic()
        before = {name: cpu(self._parts.pid(name)) for name in self._parts.servers}
        wait(IDLE)
        for name, used in before.items():
            share = (cpu(self._parts.pid(name)) - used) / (time.monotonic() - begun)
            if share > IDLE_CPU:
                self._chaos.breaks(f"{name} uses {share:.0%} of a core while nothing is to do")


def _not_ready(serial: str, device: KnownDevice | None) -> Iterator[str]:
    if device is None:
        yield f"device {serial} is lost"
    elif device.report.state is not DeviceState.READY or not device.fresh:
        fresh = "" if device.fresh else ", its worker is not fresh"
        yield f"device {serial} is {device.report.state}: {device.report.reason}{fresh}"


def _gist(line: str) -> str:
    """A line of a log without what differs each time."""
    text = re.sub(r"^[-0-9]+ [:,0-9]+ ", "", line)
    return re.sub(r"\b[0-9a-fA-F]{8,}\b", "…", text)[:150]
