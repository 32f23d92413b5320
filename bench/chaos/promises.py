"""Checks the promises of a farm in which nothing fails any more: is it as it was, does it work?"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from bench.chaos.client_record import check_record, measured_holds, read_record
from bench.chaos.health import leftovers, resources, retained
from bench.chaos.holds import Hold, contradictions
from bench.chaos.parts import Parts
from bench.chaos.summary import Summary
from bench.population import population
from bench.processes import cpu
from icebus.bus import BrokerAddress
from icebus.client import PulseCountClient
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import IcebusError
from icebus.schemas.message import now
from icebus.schemas.operations.history import HistoryEvent
from icebus.schemas.operations.reservations import KnownDevice

READY_TIMEOUT = 120.0
"""Seconds for the farm to be idle and ready, once clients have finished and pauses of broken boards
are over: recovery takes its steps, and the broker forgets clients that died after a minute."""

RECOVERY_ATTEMPT = 60.0
"""Seconds after the last repair in which an attempt to recover a board may still fail, because it
began before."""

LONGEST_PAUSE = 600.0
"""Seconds that recovery pauses at most, as docs/architecture.md says."""

IDLE_SECONDS = 5.0
"""Over which the CPU time of an idle farm is measured."""

IDLE_CPU = 0.15
"""Of a core that a part of an idle farm may use."""

ALL_ENTRIES = 1_000_000
"""A limit that the history does not reach."""

HISTORY_TIMEOUT = 60.0

_ERROR = re.compile(r"^(?:Traceback|.* (?:ERROR|CRITICAL) .*)")


class PromiseChecks:
    """The promises that a farm is held to after the last repair.

    Args:
        summary: to be filled in.
        parts: of the farm.
        serials: of all boards.
        observer: the broker's address, for a principal that may read all that is retained.
    """

    def __init__(
        self, summary: Summary, parts: Parts, serials: list[str], observer: BrokerAddress
    ) -> None:
        self._summary = summary
        self._parts = parts
        self._farm = parts.farm
        self._serials = serials
        self._observer = observer

    def check_farm(self, repaired: datetime, wait: Callable[[float], None]) -> None:
        """Wait until the farm is idle and ready; whatever is not breaks a promise."""
        deadline = Deadline.after(READY_TIMEOUT)
        while True:
            problems = list(self._problems())
            if not problems:
                self._summary.ready = (now() - repaired).total_seconds()
                break
            if deadline.expired and now() > self._pauses_end(repaired) + timedelta(
                seconds=READY_TIMEOUT
            ):
                for each in problems:
                    self._summary.add_broken(each)
                break
            wait(1.0)
        self._check_counts()
        self._check_idle_cpu(wait)

    def check_history(self, published: set[Hold]) -> None:
        """Check the history of control against itself, what it published, and what was measured."""
        events = [HistoryEvent.RESERVED, HistoryEvent.RELEASED]
        try:
            with PulseCountClient(self._farm.url) as client:
                newest_first = client.history(
                    events=events, limit=ALL_ENTRIES, timeout=HISTORY_TIMEOUT
                )
        except IcebusError as error:
            self._summary.add_broken(f"the history can't be read: {error.message}")
            return
        records = (read_record(self._parts.record(name)) for name in self._parts.clients)
        measured = {hold for record in records for hold in measured_holds(record)}
        for each in contradictions(reversed(newest_first), published | measured):
            self._summary.add_broken(each)

    def check_records(self) -> None:
        """Check what clients have written down."""
        summary = self._summary
        for name in self._parts.clients:
            client = check_record(read_record(self._parts.record(name)), self._farm.shape.window)
            summary.clients[name] = client
            summary.broken += [f"{name}: {text}" for text in client.broken]
            if client.last.get("what") == "finished" and client.last["threads"] > 1:
                summary.broken.append(f"{name} has {client.last['threads']} threads at the end")

    def count_log_errors(self) -> None:
        """Count the errors in the logs."""
        for name in (*self._parts.servers[1:], *self._parts.clients):
            for line in self._parts.log(name).read_text(errors="replace").splitlines():
                if _ERROR.match(line):
                    self._summary.errors[f"{name.rstrip('0123456789')}: {_without_ids(line)}"] += 1

    def check_leaks(self) -> None:
        """Compare what parts use with what they used at the beginning."""
        for name, (then, _) in self._summary.resources.items():
            used = resources(self._parts.pid(name))
            self._summary.resources[name] = then, used
            self._summary.broken += [f"{name} has {leak}" for leak in used.leaks(then)]

    def _problems(self) -> Iterator[str]:
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
        yield from leftovers(retained(self._observer), self._serials, self._parts.clients)

    def _pauses_end(self, repaired: datetime) -> datetime:
        """When recovery goes on with the last board that misbehaved before the last repair."""
        last = repaired
        try:
            with PulseCountClient(self._farm.url) as client:
                reports = [each.report for each in client.devices()]
        except IcebusError:
            return last
        for report in reports:
            broke_before = report.since < repaired + timedelta(seconds=RECOVERY_ATTEMPT)
            if broke_before and report.retry is not None and report.state is DeviceState.BROKEN:
                last = max(last, min(report.retry, repaired + timedelta(seconds=LONGEST_PAUSE)))
        return last

    def _check_counts(self) -> None:
        """Every board must evaluate one more bitstream, and rightly."""
        boards = self._farm.shape.boards
        (last,) = population(1)
        try:
            with PulseCountClient(self._farm.url) as client, client.reserve(boards) as held:
                results = list(held.evaluate([last]))
        except IcebusError as error:
            self._summary.add_broken(f"the farm does not work afterwards: {error.message}")
            return
        possible = last.counts(self._farm.shape.window)
        wrong = [each for each in results if each.pulses not in possible]
        if len(results) != boards or wrong:
            self._summary.add_broken(f"{len(results)} of {boards} boards count afterwards: {wrong}")

    def _check_idle_cpu(self, wait: Callable[[float], None]) -> None:
        begun = time.monotonic()
        before = {name: cpu(self._parts.pid(name)) for name in self._parts.servers}
        wait(IDLE_SECONDS)
        for name, used in before.items():
            share = (cpu(self._parts.pid(name)) - used) / (time.monotonic() - begun)
            if share > IDLE_CPU:
                self._summary.add_broken(f"{name} uses {share:.0%} of a core while idle")


def _not_ready(serial: str, device: KnownDevice | None) -> Iterator[str]:
    if device is None:
        yield f"device {serial} is lost"
    elif device.report.state is not DeviceState.READY or not device.fresh:
        fresh = "" if device.fresh else ", its worker is not fresh"
        yield f"device {serial} is {device.report.state}: {device.report.reason}{fresh}"


def _without_ids(line: str) -> str:
    """A line of a log without the time and ids, which differ each time."""
    text = re.sub(r"^[-0-9]+ [:,0-9]+ ", "", line)
    return re.sub(r"\b[0-9a-fA-F]{8,}\b", "…", text)[:150]
