"""``python -m bench.fpga``: CPU that the virtual FPGA takes for a bitstream it has not seen.

Four kinds of distinct bitstreams: the same circuit in different surroundings, an oscillator at
different frequencies, mutants of a divider's truth tables (placed and routed alike), and dividers
that were each placed and routed by themselves (with yosys, nextpnr-ice40 and icepack, once).
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from bench.measure import quantile
from bench.population import individual, population
from icebus.client.circuits.pulses import CLOCK, Pulses
from icebus.client.circuits.tools import build_all, find_tools
from icebus.fpga import simulate
from icebus.fpga._device import chipdb
from icebus.schemas.boards.bitstream import (
    CRAM_HEIGHTS,
    CRAM_WIDTH,
    bank_writes,
    validate,
    with_crc,
)

CIRCUITS = Path(platformdirs.user_cache_dir("icebus", appauthor=False)) / "bench-dividers"
EXAMPLES = Path(__file__).parents[1] / "examples" / "circuits"
WARM = 0.2
"""Part of the bitstreams that are not measured: they fill the caches that any will use."""


def surroundings(size: int) -> Iterator[bytes]:
    """One circuit, with other contents of a block RAM that it does not use."""
    base = individual(12_345).data
    bram = next(write for write in bank_writes(base) if write.memory == "bram")
    for number in range(size):
        data = bytearray(base)
        data[bram.start : bram.start + 4] = number.to_bytes(4, "big")
        yield with_crc(bytes(data))


def oscillators(size: int) -> Iterator[bytes]:
    """What ``python -m bench`` evaluates."""
    return (each.data for each in population(size))


def mutants(size: int) -> Iterator[bytes]:
    """A divider with two bits of its truth tables flipped."""
    base = (EXAMPLES / "pulse_8khz.bin").read_bytes()
    chooser = random.Random(1)
    places = _table_bits(base)
    for _ in range(size):
        data = bytearray(base)
        for position in chooser.sample(places, 2):
            data[position // 8] ^= 0x80 >> position % 8
        yield with_crc(bytes(data))


def _table_bits(bitstream: bytes) -> list[int]:
    """Positions, in the file, of the bits of truth tables that are in use."""
    start = 0
    offset = {}
    for write in bank_writes(bitstream):
        if write.memory == "cram":
            offset[write.bank] = 8 * write.start
    file = []
    for bank, rows in enumerate(CRAM_HEIGHTS):
        file.append((start, start + rows * CRAM_WIDTH, offset[bank] - start))
        start += rows * CRAM_WIDTH
    found = []
    for cell in chipdb.load().table_bits.tolist():
        places = [at + move for at in cell for first, last, move in file if first <= at < last]
        if any(bitstream[at // 8] >> (7 - at % 8) & 1 for at in places):
            found += places
    return found


def circuits(directory: Path, size: int) -> Iterator[bytes]:
    """Dividers by random numbers, each placed and routed; those that are there are used."""
    wanted = []
    for number in range(size):
        half = int(10 ** random.Random(number).uniform(2, 6.5))
        wanted.append(Pulses(Fraction(CLOCK, 2 * half), half))
    missing = [each for each in wanted if not _path(directory, each).exists()]
    if missing:
        for _ in build_all(find_tools(), missing, directory):
            pass
    return (_path(directory, each).read_bytes() for each in wanted)


def _path(directory: Path, circuit: Pulses) -> Path:
    return directory / f"{circuit.name}.bin"


def milliseconds(call: Callable[[bytes], object], bitstreams: list[bytes]) -> list[float]:
    """CPU of each call but the first ones."""
    result = []
    for bitstream in bitstreams:
        start = time.process_time()
        call(bitstream)
        result.append(1e3 * (time.process_time() - start))
    return result[int(WARM * len(bitstreams)) :]


def main(
    size: Annotated[int, typer.Option(help="Bitstreams of each kind.")] = 400,
    routed: Annotated[int, typer.Option(help="Dividers to place and route; 0 for none.")] = 60,
    directory: Annotated[Path, typer.Option(help="Where those are kept.")] = CIRCUITS,
    window: Annotated[float, typer.Option(help="Seconds.")] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure."""
    cycles = round(window * 48_000_000)
    kinds = {
        "surroundings": list(surroundings(size)),
        "oscillators": list(oscillators(size)),
        "mutants": list(mutants(size)),
        "circuits": list(circuits(directory, routed)),
    }
    result = {}
    for kind, bitstreams in kinds.items():
        if not bitstreams:
            continue
        row = {}
        for what, call in (
            ("validate", validate),
            ("count", lambda bitstream: simulate(bitstream, cycles=cycles)),
            ("again", lambda bitstream: simulate(bitstream, cycles=cycles - 7)),
        ):
            times = milliseconds(call, bitstreams)
            row[f"{what} ms"] = round(sum(times) / len(times), 3)
            if what == "count":
                row["count p90 ms"] = round(quantile(times, 0.9), 3)
        result[kind] = row
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    for kind, row in result.items():
        typer.echo(f"{kind:13}" + "".join(f"  {what} {value:7.3f}" for what, value in row.items()))


if __name__ == "__main__":
    typer.run(main)
