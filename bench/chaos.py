"""``python -m bench.chaos``: a farm at work whose parts die, freeze and lose each other at random.

Everything is a process of its own. Clients evaluate bitstreams whose counts are known while a
schedule that the seed decides has parts killed, stopped, frozen, cut off and unplugged. Then all is
mended, and it is looked at whether every promise was kept.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench import researcher
from bench.farm import CONTROL, USER, Farm, Shape, cpu
from bench.faults import Fault, Kind, schedule
from bench.health import Resources, leftovers, resources, retained
from bench.outcomes import Account, audit, read
from bench.population import population
from icebus.broker.access import Principal
from icebus.broker.process import Child
from icebus.client import PulseCountClient
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import IcebusError
from icebus.schemas.rack import RackFile, edit_rack_file, read_rack_file
from icebus.schemas.topics import Role

WARM = 5.0
"""Seconds that clients work before what the parts use is noted."""

FINISH = 150.0
"""Seconds for clients to end their runs once nothing fails any more: the library gives up boards
that do not return after 60 s, and there may be one run after another."""

READY = 120.0
"""Seconds for the farm to be idle and ready after that: the longest pause of a broken board, and a
minute until the broker forgets clients that died."""

IDLE = 5.0
"""Seconds over which an idle farm's CPU is looked at."""

IDLE_CPU = 0.15
"""Of a core that a part of an idle farm may use."""

RESTART = 1.0
"""Seconds after which a part that ended by itself is started again, as a service manager does."""

BROKER_START = 30.0

AUDITOR = "auditor"

_TRACEBACK = re.compile(r"^(?:Traceback|.* (?:ERROR|CRITICAL) .*)")


@dataclass
class Chaos:
    """What a run has come to.

    Attributes:
        seed: that decides its schedule.
        faults: what was done.
        accounts: the clients' ledgers, by name.
        ends: parts that ended by themselves, by name: what they said last.
        errors: errors and tracebacks in the logs, by part and first words.
        use: what parts used at the beginning and in the end.
        ready: seconds from the last repair to the whole farm idle and ready; None if never.
        broken: the promises that were broken.
    """

    seed: int
    faults: list[Fault]
    accounts: dict[str, Account] = field(default_factory=dict)
    ends: dict[str, list[str]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    use: dict[str, tuple[Resources, Resources]] = field(default_factory=dict)
    ready: float | None = None
    broken: list[str] = field(default_factory=list)


class Run:
    """A farm, its clients, and what happens to them. Everything is started on one thread.

    Args:
        farm: to be let fail.
        directory: of the clients' ledgers and logs.
        clients: how many.
        chaos: the account to fill.
    """

    def __init__(self, farm: Farm, directory: Path, clients: int, chaos: Chaos) -> None:
        self._farm = farm
        self._directory = directory
        self._chaos = chaos
        self._names = [f"client{number}" for number in range(clients)]
        self._clients: dict[str, Child] = {}
        self._urls = {name: farm.admit(Principal(id=name, role=Role.USER)) for name in self._names}
        farm.admit(Principal(id=AUDITOR, role=Role.CONTROL))
        self._parts = ["control", *farm.workers]
        self._down: set[str] = set()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._racks = [
            (read_rack_file(farm.rack(number)) or RackFile()).boards
            for number in range(farm.shape.workers)
        ]
        self._pause = threading.Event()

    @property
    def targets(self) -> list[str]:
        """All that can fail."""
        racks = [f"rack{number}" for number in range(self._farm.shape.workers)]
        return ["broker", *self._parts, *self._names, *racks]

    # --- the run ------------------------------------------------------------------------------

    def live(self, faults: list[Fault], seconds: float) -> None:
        """Let clients work and things fail; then mend all, and let clients finish."""
        for name in self._names:
            self._start_client(name)
        self._wait(WARM)
        before = {name: resources(self._pid(name)) for name in ("broker", *self._parts)}
        begun = time.monotonic()
        for fault in faults:
            self._at(begun + fault.at, partial(self._begin, fault))
        self._until(begun + seconds)
        say("all is mended; clients finish")
        (self._directory / researcher.FINISH).touch()
        mended = time.monotonic()
        self._finish()
        self._settle(mended)
        time.sleep(IDLE)  # helpers that linger end
        self._chaos.use = {
            name: (then, resources(self._pid(name))) for name, then in before.items()
        }

    def _finish(self) -> None:
        deadline = Deadline.after(FINISH)
        while any(child.running for child in self._clients.values()) and not deadline.expired:
            self._wait(0.5)
        for name, child in self._clients.items():
            if child.running:
                child.process.send_signal(signal.SIGABRT)
                self._break(f"{name} hangs: it has not finished in {FINISH:g} s")

    def _settle(self, mended: float) -> None:
        """Wait until all that is left is an idle farm; what else is left is a broken promise."""
        deadline = Deadline.after(READY)
        while True:
            wrong = list(self._wrong())
            if not wrong:
                self._chaos.ready = time.monotonic() - mended
                break
            if deadline.expired:
                for each in wrong:
                    self._break(each)
                break
            self._wait(1.0)
        self._prove()
        before = {name: cpu(self._pid(name)) for name in ("broker", *self._parts)}
        self._wait(IDLE)
        for name, used in before.items():
            share = (cpu(self._pid(name)) - used) / IDLE
            if share > IDLE_CPU:
                self._break(f"{name} uses {share:.0%} of a core while nothing is to do")

    def _wrong(self) -> Iterator[str]:
        serials = [board.serial for rack in self._racks for board in rack]
        try:
            with PulseCountClient(self._farm.url) as client:
                devices = client.devices()
                held = client.reservations(everybody=True)
        except IcebusError as error:
            yield f"control does not answer: {error.message}"
            return
        yield from (f"reservation {each.id} of {each.user} is left" for each in held)
        known = {each.report.serial: each for each in devices}
        for serial in serials:
            device = known.get(serial)
            if device is None:
                yield f"device {serial} is lost"
            elif device.report.state is not DeviceState.READY or not device.fresh:
                fresh = "" if device.fresh else ", its worker is not fresh"
                yield f"device {serial} is {device.report.state}: {device.report.reason}{fresh}"
        yield from leftovers(retained(self._farm.broker.address(AUDITOR)), serials, self._names)

    def _prove(self) -> None:
        """Every board must evaluate one more bitstream, and rightly."""
        boards = self._farm.shape.boards
        (last,) = population(1)
        try:
            with PulseCountClient(self._farm.url) as client, client.reserve(boards) as held:
                results = list(held.evaluate([last]))
        except IcebusError as error:
            self._break(f"the farm does not work afterwards: {error.message}")
            return
        possible = last.counts(self._farm.shape.window)
        wrong = [each for each in results if each.pulses not in possible]
        if len(results) != boards or wrong:
            self._break(f"{len(results)} of {boards} boards count afterwards, wrongly: {wrong}")

    # --- faults -------------------------------------------------------------------------------

    def _begin(self, fault: Fault) -> None:
        say(f"{fault.at:7.1f} s  {fault}")
        self._chaos.faults.append(fault)
        mend = self._break_down(fault)
        if mend is not None:
            self._at(time.monotonic() + fault.seconds, mend)

    def _break_down(self, fault: Fault) -> Callable[[], None] | None:
        """Do it; returns how to mend it."""
        name, network = fault.target, self._farm.network
        assert network is not None  # noqa: S101
        line = CONTROL if name == "control" else name
        match fault.kind:
            case Kind.KILL | Kind.STOP | Kind.FORGET:
                return self._take_down(name, fault.kind)
            case Kind.FREEZE:
                os.kill(self._pid(name), signal.SIGSTOP)
                pid = self._pid(name)
                return lambda: os.kill(pid, signal.SIGCONT)
            case Kind.CUT:
                network.cut(line)
            case Kind.HALF_OPEN:
                network.half_open(line)
            case Kind.HOLD:
                network.hold(line)
                return lambda: network.resume(line)
            case Kind.UNPLUG | Kind.RESET:
                return self._unplug(int(name.removeprefix("rack")), fault.boards)
        return None

    def _take_down(self, name: str, kind: Kind) -> Callable[[], None]:
        self._down.add(name)
        process = self._process(name)
        process.send_signal(signal.SIGTERM if kind is Kind.STOP else signal.SIGKILL)

        def start() -> None:
            # One that was asked to stop may need a moment: two of one name are another story.
            process.wait(30)
            if kind is Kind.FORGET:
                (self._farm.broker.directory / "mosquitto.db").unlink(missing_ok=True)
            self._down.discard(name)
            self._start(name)

        return start

    def _unplug(self, number: int, boards: tuple[int, ...]) -> Callable[[], None]:
        directory, whole = self._farm.rack(number), self._racks[number]
        gone = {whole[index].port for index in boards} or {board.port for board in whole}
        left = RackFile(boards=tuple(board for board in whole if board.port not in gone))
        edit_rack_file(directory, lambda _: left)

        def plug() -> None:
            edit_rack_file(directory, lambda _: RackFile(boards=whole))

        return plug

    # --- processes ----------------------------------------------------------------------------

    def _process(self, name: str) -> Any:
        if name == "broker":
            return self._farm.broker.child.process
        if name in self._clients:
            return self._clients[name].process
        return self._farm.process(name)

    def _pid(self, name: str) -> int:
        pid: int = self._process(name).pid
        return pid

    def _start(self, name: str) -> None:
        if name == "broker":
            self._farm.broker.start(Deadline.after(BROKER_START))
        elif name in self._clients:
            if not (self._directory / researcher.FINISH).exists():
                self._start_client(name)
        else:
            self._farm.start(name)

    def _start_client(self, name: str) -> None:
        number = self._names.index(name)
        boards = max(1, self._farm.shape.boards // len(self._names))
        argv = [sys.executable, "-m", "bench.researcher"]
        argv += [str(self._directory), name, str(number), str(boards)]
        environment = {"ICEBUS_URL": self._urls[name], "PYTHONUNBUFFERED": "1"}
        self._clients[name] = Child(argv, self._directory / f"{name}.log", environment)

    def _supervise(self) -> None:
        """Start again what ended by itself, and remember that it did."""
        finishing = (self._directory / researcher.FINISH).exists()
        for name in ("broker", *self._parts, *self._clients):
            process = self._process(name)
            if name in self._down or process.poll() is None:
                continue
            if name in self._clients and finishing and process.returncode == 0:
                continue
            self._down.add(name)
            log = self._log(name)
            last = log.read_text(errors="replace").strip().splitlines()[-1:] or [""]
            text = f"exit code {process.returncode}: {last[0]}"
            say(f"           {name} ended by itself, {text}")
            self._chaos.ends.setdefault(name, []).append(text)

            def again(name: str = name) -> None:
                self._down.discard(name)
                self._start(name)

            self._at(time.monotonic() + RESTART, again)

    def _log(self, name: str) -> Path:
        if name == "broker":
            return self._farm.broker.directory / "mosquitto.log"
        if name in self._clients:
            return self._directory / f"{name}.log"
        return self._farm.log(name)

    # --- time ---------------------------------------------------------------------------------

    def _at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (moment, next(self._order), action))

    def _wait(self, seconds: float) -> None:
        self._pass(time.monotonic() + seconds)

    def _until(self, moment: float) -> None:
        """Do what is due until then, and after that whatever mends what is broken."""
        self._pass(moment)
        while self._agenda:
            self._pass(self._agenda[0][0])

    def _pass(self, moment: float) -> None:
        while True:
            self._supervise()
            now = time.monotonic()
            if self._agenda and self._agenda[0][0] <= now:
                heapq.heappop(self._agenda)[2]()
                continue
            if now >= moment:
                return
            due = self._agenda[0][0] if self._agenda else moment
            self._pause.wait(max(0.0, min(due, moment, now + 0.2) - now))

    # --- accounts -----------------------------------------------------------------------------

    def _break(self, text: str) -> None:
        say(f"BROKEN: {text}")
        self._chaos.broken.append(text)

    def account(self) -> None:
        """Read the ledgers and logs."""
        chaos = self._chaos
        for name in self._names:
            lines = read(self._directory / f"{name}.jsonl")
            account = chaos.accounts[name] = audit(lines, self._farm.shape.window)
            chaos.broken += [f"{name}: {text}" for text in account.broken]
            if account.last.get("what") == "finished" and account.last["threads"] > 1:
                chaos.broken.append(f"{name} has {account.last['threads']} threads in the end")
        for name in (*self._parts, *self._names):
            for line in self._log(name).read_text(errors="replace").splitlines():
                if _TRACEBACK.match(line):
                    chaos.errors[f"{name.rstrip('0123456789')}: {_gist(line)}"] += 1
        for name, (then, now) in chaos.use.items():
            chaos.broken += [f"{name} has {leak}" for leak in now.leaks(then)]

    def stop(self) -> None:
        """End the clients, even frozen ones."""
        for child in self._clients.values():
            if child.running:
                child.process.send_signal(signal.SIGCONT)
            child.stop(Deadline.after(5))


def _gist(line: str) -> str:
    """A line of a log without what differs each time."""
    text = re.sub(r"^[-0-9]+ [:,0-9]+ ", "", line)
    return re.sub(r"\b[0-9a-fA-F]{8,}\b", "…", text)[:150]


def say(text: str) -> None:
    """Tell what is going on."""
    sys.stderr.write(f"chaos: {text}\n")
    sys.stderr.flush()


def unleash(seed: int, seconds: float, shape: Shape, clients: int, directory: Path) -> Chaos:
    """Run chaos on a farm in a directory; everything it leaves there is for people to read."""
    chaos = Chaos(seed, [])
    say(f"seed {seed}: {shape.boards} boards, {shape.workers} workers, {clients} clients")
    farm = Farm(shape, directory, faulty=True)
    run: Run | None = None
    try:
        with PulseCountClient(farm.broker.address(USER).url()) as client:
            farm.wait_ready(client)
        run = Run(farm, directory, clients, chaos)
        faults = schedule(seed, seconds, run.targets, shape.boards // shape.workers)
        run.live(faults, seconds)
    finally:
        if run is not None:
            run.stop()
            run.account()
        farm.stop()
    return chaos


def show(chaos: Chaos) -> None:
    """Print the ledger."""
    console = Console(width=140 if not sys.stdout.isatty() else None, highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("CLIENT", "LIVES", "RUNS", "RIGHT", "FAILED", "KILLED UNDER WAY", "FETCHED"):
        table.add_column(heading, justify="left" if heading == "CLIENT" else "right")
    for name, account in chaos.accounts.items():
        failed = sum(account.failures.values())
        given = (account.lives, account.runs, account.results)
        numbers = (*given, failed, account.unknown, account.collected)
        table.add_row(name, *map(str, numbers))
    console.print(table)
    _show_counts(console, "Evaluations failed with", chaos, lambda account: account.failures)
    _show_counts(console, "Other operations failed with", chaos, lambda account: account.troubles)
    faults = Counter(f"{fault.kind} {fault.target}" for fault in chaos.faults)
    console.print(f"\nFaults: {_listed(faults)}")
    if chaos.ends:
        console.print("\nEnded by themselves:")
        for name, texts in chaos.ends.items():
            console.print(f"  {name}: {len(texts)} times, last with {texts[-1]}", markup=False)
    if chaos.errors:
        console.print("\nErrors in logs:")
        for text, count in chaos.errors.most_common(12):
            console.print(f"  {count:4} {text}", markup=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("PART", "THREADS", "DESCRIPTORS", "MIB"):
        table.add_column(heading, justify="left" if heading == "PART" else "right")
    for name, (then, now) in chaos.use.items():
        table.add_row(
            name,
            f"{then.threads} → {now.threads}",
            f"{then.files} → {now.files}",
            f"{then.memory:.0f} → {now.memory:.0f}",
        )
    console.print()
    console.print(table)
    ready = "never" if chaos.ready is None else f"{chaos.ready:.1f} s after the last repair"
    console.print(f"\nIdle and ready: {ready}")
    for text in chaos.broken:
        console.print(f"BROKEN: {text}", markup=False)
    console.print(f"seed {chaos.seed}: {'BROKEN' if chaos.broken else 'every promise held'}")


def _show_counts(
    console: Console, title: str, chaos: Chaos, counts: Callable[[Account], Counter[str]]
) -> None:
    total: Counter[str] = Counter()
    for account in chaos.accounts.values():
        total += counts(account)
    if total:
        console.print(f"\n{title}: {_listed(total)}")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} × {what}" for what, count in counts.most_common())


def as_json(chaos: Chaos) -> dict[str, Any]:
    """The same for machines."""
    return {
        "seed": chaos.seed,
        "faults": [
            {"at": f.at, "target": f.target, "kind": f.kind, "seconds": f.seconds}
            for f in chaos.faults
        ],
        "clients": {
            name: {
                "lives": account.lives,
                "runs": account.runs,
                "results": account.results,
                "failures": dict(account.failures),
                "unknown": account.unknown,
                "collected": account.collected,
                "troubles": dict(account.troubles),
            }
            for name, account in chaos.accounts.items()
        },
        "ended": chaos.ends,
        "errors": dict(chaos.errors),
        "use": {
            name: {"before": vars(then), "after": vars(now)}
            for name, (then, now) in chaos.use.items()
        },
        "ready": chaos.ready,
        "broken": chaos.broken,
    }


def main(
    seed: Annotated[int, typer.Option(help="Decides what fails when.")] = 1,
    minutes: Annotated[float, typer.Option(min=0.5, help="How long things fail.")] = 2.0,
    boards: Annotated[int, typer.Option(min=2, help="Virtual boards in all.")] = 16,
    workers: Annotated[int, typer.Option(min=1, help="Workers, each with a rack.")] = 2,
    clients: Annotated[int, typer.Option(min=1, max=64, help="That evaluate.")] = 3,
    window: Annotated[float, typer.Option(help="Seconds that boards count pulses for.")] = 0.2,
    keep: Annotated[
        Path | None, typer.Option(help="A new directory for logs and ledgers, to be kept.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Let parts of a farm at work fail at random, and see whether every promise holds.

    Exits with 1 when one does not. The same seed gives the same schedule.
    """
    with tempfile.TemporaryDirectory(prefix="icebus-chaos-") as temporary:
        directory = keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        shape = Shape(boards, window, workers=workers)
        chaos = unleash(seed, minutes * 60, shape, clients, directory)
    if json_output:
        typer.echo(json.dumps(as_json(chaos), indent=2))
    else:
        show(chaos)
    raise typer.Exit(1 if chaos.broken else 0)


if __name__ == "__main__":
    typer.run(main)
