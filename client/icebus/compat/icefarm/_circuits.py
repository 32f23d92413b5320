"""iCEFARM's helpers for examples."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from icebus.client.circuits import tools
from icebus.client.circuits.pulses import Pulses

T = TypeVar("T")


def batch(items: Iterable[T], amount: int) -> list[list[T]]:
    """Deal items out to so many lists, in turn."""
    batches: list[list[T]] = [[] for _ in range(amount)]
    for number, item in enumerate(items):
        batches[number % amount].append(item)
    return batches


def generate_circuit(
    hz: float, build_dir: str | os.PathLike[str], **options: Any
) -> tuple[str, float]:
    """Build a circuit that gives pulses.

    Args:
        hz: pulses a second; the nearest that can be made is.
        build_dir: where ``top.bin`` is written.
        **options: where iCEFARM has its scripts; of no effect.

    Returns:
        The bitstream's path, and the thousands of pulses a second that it gives.

    Raises:
        ProgramMissing: yosys, nextpnr-ice40 or icepack is not installed.
        BuildFailed: one of them failed.
    """
    circuit = Pulses.at(Fraction(hz))
    path = Path(build_dir) / "top.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tools.build(tools.find_tools(), circuit))
    return str(path), float(circuit.frequency / 1000)
