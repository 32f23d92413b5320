"""Evolve a circuit until it gives as many pulses as you want: a genetic search over bitstreams.

The genome is 128 bits of the bitstream itself: the truth tables of eight lookup tables that decide
how fast an oscillator runs (evolvable/oscillator.v; evolvable/oscillator.json says where they are).
An individual is the base bitstream with those bits set and its checksum made right again, and its
fitness is how near its pulses come to a target that the base circuit misses. Each generation goes
to `boards.map`, which gives every circuit to whichever board is free.

With a farm of four virtual boards just for it, and a picture of how it went:

    icebus up --boards 4 --window 0.1 -- python examples/evolve.py --plot evolved.png

Its choices depend on the seed and on what was counted, never on the order in which results came.
Boards differ by up to a millisecond of their window, so runs of one seed are alike, not identical.
The plot needs matplotlib: pip install 'icebus[examples]'.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from icebus.client import Boards, PulseCountClient
from icebus.schemas.boards.bitstream import with_crc

REGION = Path(__file__).parent / "evolvable"
BASE = (REGION / "oscillator.bin").read_bytes()
GENES = [
    bit for table in json.loads((REGION / "oscillator.json").read_text())["tables"] for bit in table
]

ELITE = 2  # the best of a generation, which live on as they are
TOURNAMENT = 3  # drawn at random; the fittest of them becomes a parent
MUTATIONS = 2.0  # genes that change in a child, on average

Genome = tuple[bool, ...]  # one bit for each of GENES


@dataclass(frozen=True)
class Individual:
    """What `boards.map` is given: anything with ``data`` will do, and results lead back to it."""

    genome: Genome

    @property
    def data(self) -> bytes:
        """Its bitstream, made when a board is about to need it."""
        bitstream = bytearray(BASE)
        for position, gene in zip(GENES, self.genome, strict=True):
            mask = 0x80 >> position % 8
            if gene:
                bitstream[position // 8] |= mask
            else:
                bitstream[position // 8] &= ~mask
        return with_crc(bytes(bitstream))


class Search:
    """A population, what is known of its circuits, and how to get to the next generation."""

    def __init__(self, boards: Boards, size: int, target: int, seed: int) -> None:
        self.boards = boards
        self.target = target
        self.random = random.Random(seed)
        self.pulses: dict[Genome, int] = {}  # of every circuit ever counted
        self.population = [tuple(self.random.random() < 0.5 for _ in GENES) for _ in range(size)]

    def evaluate(self) -> int:
        """Count the pulses of those circuits that are new; returns how many were."""
        new = [Individual(g) for g in dict.fromkeys(self.population) if g not in self.pulses]
        for result in self.boards.map(new):
            self.pulses[result.source.genome] = result.pulses
        # From here on the best come first. Equals are told apart by their genes, so that the order
        # in which results came changes nothing.
        self.population.sort(key=lambda genome: (self.distance(genome), genome))
        return len(new)

    def distance(self, genome: Genome) -> float:
        """How far from the target: 0 is perfect, 1 is half as many pulses or twice as many."""
        return abs(math.log2((self.pulses[genome] + 1) / (self.target + 1)))

    def breed(self) -> None:
        """Replace the population by its children, but for the elite."""
        children = [self.child() for _ in range(len(self.population) - ELITE)]
        self.population[ELITE:] = children

    def child(self) -> Genome:
        """Each gene from one parent or the other, and now and then turned over."""
        mother, father = self.parent(), self.parent()
        rate = MUTATIONS / len(GENES)
        return tuple(
            self.random.choice(pair) ^ (self.random.random() < rate)
            for pair in zip(mother, father, strict=True)
        )

    def parent(self) -> Genome:
        """The winner of a tournament. The population is sorted: a lower index is fitter."""
        return self.population[min(self.random.choices(range(len(self.population)), k=TOURNAMENT))]


def plot(history: list[list[int]], target: int, path: Path) -> None:
    """Draw how the generations came nearer to the target."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, MaxNLocator

    figure = Figure(figsize=(8, 6), layout="constrained")
    counts, errors = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    numbers = range(len(history))
    for number, pulses in enumerate(history):
        # The golden ratio scatters them evenly, whatever their order.
        spread = [number + 0.3 * ((0.618 * i) % 1 - 0.5) for i in range(len(pulses))]
        counts.plot(spread, pulses, ".", color="tab:blue", alpha=0.3)
    counts.plot([], [], ".", color="tab:blue", label="individuals")
    counts.plot(numbers, [pulses[0] for pulses in history], color="tab:orange", label="best")
    counts.axhline(target, color="tab:green", linestyle="--", label=f"target: {target:,}")
    counts.set_ylabel("pulses in a window")
    counts.yaxis.set_major_formatter("{x:,.0f}")
    counts.set_title("Evolving an oscillator's truth tables in the bitstream")
    counts.legend(loc="lower right")

    off = [[100 * abs(each - target) / target for each in pulses] for pulses in history]
    best, median = [min(each) for each in off], [statistics.median(each) for each in off]
    errors.plot(numbers, median, "o-", color="tab:blue", label="median")
    errors.plot(numbers, best, "o-", color="tab:orange", label="best")
    errors.set(xlabel="generation", ylabel="off target (%)", yscale="symlog", ylim=(0, None))
    errors.yaxis.set_major_locator(FixedLocator([0, 1, 3, 10, 30, 100]))
    errors.yaxis.set_major_formatter("{x:g}")
    errors.xaxis.set_major_locator(MaxNLocator(integer=True))
    errors.legend(loc="upper right")
    for axes in (counts, errors):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def options() -> argparse.Namespace:
    """What the command line says."""
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--boards", type=int, default=4, help="boards to reserve (default: 4)")
    add("--generations", type=int, default=8, help="how many (default: 8)")
    add("--population", type=int, default=32, help="individuals in each (default: 32)")
    add("--target", type=int, default=12_000, help="pulses wanted in a window (default: 12000)")
    add("--seed", type=int, default=1, help="of all that is random here (default: 1)")
    add("--output", type=Path, default=Path("evolved.bin"), help="where the best bitstream goes")
    add("--plot", type=Path, help="draw a picture into this file (.png, .svg, .pdf)")
    return parser.parse_args()


def main() -> None:
    """Evolve, and keep the best."""
    wanted = options()
    history: list[list[int]] = []
    with PulseCountClient() as client, client.reserve(wanted.boards) as boards:
        search = Search(boards, wanted.population, wanted.target, wanted.seed)
        for generation in range(wanted.generations):
            if generation:
                search.breed()
            began = time.monotonic()
            new = search.evaluate()
            took = time.monotonic() - began
            pulses = [search.pulses[genome] for genome in search.population]
            history.append(pulses)
            off = 100 * (pulses[0] - wanted.target) / wanted.target
            print(
                f"generation {generation}: best {pulses[0]:,} pulses ({off:+.2f} %), median "
                f"{statistics.median(pulses):,.0f}; {new} new circuits in {took:.1f} s",
                file=sys.stderr,
            )
        best = Individual(search.population[0])
        wanted.output.write_bytes(best.data)
        for result in boards.evaluate([wanted.output]):  # as it is, on every board
            print(f"{result.serial} {result.bitstream} {result.pulses}")
    if wanted.plot is not None:
        plot(history, wanted.target, wanted.plot)


if __name__ == "__main__":
    main()
