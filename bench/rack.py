"""``python -m bench.rack``: CPU that virtual boards take for an evaluation, without a worker.

Feeds every board of a rack the next bitstream as soon as it reports.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from bench.population import population
from icebus.schemas.boards.rack import read_boards

_TICKS = os.sysconf("SC_CLK_TCK")


class Host:
    """Sends each board its next bitstream as soon as it has reported; on one thread."""

    def __init__(self, ports: list[Path], bitstreams: Iterator[bytes]) -> None:
        self._selector = selectors.DefaultSelector()
        self._bitstreams = bitstreams
        self._left: dict[int, memoryview] = {}
        self._printed: dict[int, bytes] = {}
        self.done = 0
        for port in ports:
            fd = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            self._printed[fd] = b""
            self._next(fd)

    def _next(self, fd: int) -> None:
        data = next(self._bitstreams, None)
        if data is None:
            return
        self._left[fd] = memoryview(data)
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        if fd in self._selector.get_map():
            self._selector.modify(fd, both)
        else:
            self._selector.register(fd, both)

    def run(self, until: int) -> None:
        """Go on until so many reports have come."""
        while self.done < until:
            for key, events in self._selector.select(10):
                if events & selectors.EVENT_WRITE:
                    self._write(key.fd)
                if events & selectors.EVENT_READ:
                    self._read(key.fd)

    def _write(self, fd: int) -> None:
        left = self._left[fd]
        self._left[fd] = left = left[os.write(fd, left) :]
        if not left:
            self._selector.modify(fd, selectors.EVENT_READ)

    def _read(self, fd: int) -> None:
        printed = self._printed[fd] + os.read(fd, 4096)
        if b"pulses" in printed.lower() and b"aiting" in printed.lower().split(b"pulses")[-1]:
            self.done += 1
            printed = b""
            self._next(fd)
        self._printed[fd] = printed


def consumed(pid: int) -> tuple[float, float]:
    """Seconds of a process in user and in kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / _TICKS, int(fields[12]) / _TICKS


def children(pid: int) -> list[int]:
    """Processes started by a process."""
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def main(
    boards: Annotated[int, typer.Option(help="How many.")] = 32,
    rounds: Annotated[int, typer.Option(help="Evaluations of each.")] = 50,
    window: Annotated[float, typer.Option(help="Seconds.")] = 0.05,
    bandwidth: Annotated[float, typer.Option(help="Bytes per second; 0: no limit.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        command = [sys.executable, "-m", "icebus.rack.cli", "run", "-d", name, "-n", str(boards)]
        command += ["--window", str(window), "--bandwidth", str(bandwidth)]
        rack = subprocess.Popen([*command, "--firmware", "pulse_count"])
        try:
            while len(read_boards(directory)) < boards:
                time.sleep(0.05)
            total = boards * (rounds + 4)
            bitstreams = [individual.data for individual in population(total)]
            host = Host(
                [directory / board.port / "tty" for board in read_boards(directory)],
                iter(bitstreams),
            )
            host.run(4 * boards)
            pids = {"rack": [rack.pid], "simulation": children(rack.pid), "host": [os.getpid()]}
            before = {part: [consumed(pid) for pid in pids[part]] for part in pids}
            start, done = time.monotonic(), host.done
            host.run(total)
            seconds, done = time.monotonic() - start, host.done - done
            result = {"evaluations": done, "evaluations/s": round(done / seconds, 1)}
            for part, of_part in before.items():
                now = [consumed(pid) for pid in pids[part]]
                for i, mode in enumerate(("user", "system")):
                    used = sum(b[i] for b in now) - sum(a[i] for a in of_part)
                    result[f"{part} {mode} ms"] = round(1e3 * used / done, 3)
        finally:
            rack.send_signal(signal.SIGTERM)
            rack.wait(10)
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        for what, value in result.items():
            typer.echo(f"{what:22}{value:10}")


if __name__ == "__main__":
    typer.run(main)
