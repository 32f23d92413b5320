"""The machine by itself: how much of a number is its own."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Measure, median, quantile
from bench.population import individual

ROUNDS = 1000
PAUSE = 0.001
"""Seconds between round trips, so that both sides have gone to sleep."""


def description() -> dict[str, str | int | None]:
    """What this is measured on."""
    model = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else ""
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def machine() -> Iterator[Measure]:
    """How fast it computes, and how long a process waits to be woken by another.

    A busy host lets a virtual machine wait for its processors: then the second is tens of
    milliseconds now and then, and so is everything that is measured.
    """
    data = individual(1).data
    times = [_timed(data) for _ in range(200)]
    yield Measure("this machine: sha256 of a bitstream", median(times) * 1e6, "µs")
    waits = _round_trips()
    for name, fraction in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        yield Measure(
            f"this machine: a byte to a process and back, {name}",
            quantile(waits, fraction) * 1e3,
            "ms",
        )


def _timed(data: bytes) -> float:
    begun = time.perf_counter()
    hashlib.sha256(data)
    return time.perf_counter() - begun


def _round_trips() -> list[float]:
    there_read, there_write = os.pipe()
    back_read, back_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(there_write)
        while byte := os.read(there_read, 1):
            os.write(back_write, byte)
        os._exit(0)
    waits = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        os.write(there_write, b"x")
        os.read(back_read, 1)
        waits.append(time.perf_counter() - begun)
        time.sleep(PAUSE)
    for end in (there_write, there_read, back_read, back_write):
        os.close(end)
    os.waitpid(child, 0)
    return waits
