"""What another simulator counts: Project IceStorm's icebox_vlog and Icarus Verilog.

It takes seconds a bitstream, mostly to look the wires up. So what it counts for the corpus and for
mutants of it is kept in ``corpus/other_simulator.json``; this file as a program writes that anew,
within some minutes. A few of these are counted again by the tests.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from icebus.schemas.boards.bitstream import bank_writes, with_crc

CORPUS = Path(__file__).parent / "corpus"
KEPT = CORPUS / "other_simulator.json"
MARKS = (1, 2, 3, 10, 100, 999, 5_000, 12_345, 20_000)
"""Clock cycles after which counts are compared."""

TOOLS = ("iceunpack", "icebox_vlog", "iverilog", "vvp")
BUILD_TOOLS = ("yosys", "nextpnr-ice40", "icepack")

MUTATED = (
    "divider_3khz",
    "both_edges",
    "enable",
    "async_reset",
    "async_set",
    "ripple",
    "ripple_clock",
    "lfsr_16",
    "johnson",
    "accumulator",
    "gated_clock",
)
MUTANTS = 3
"""Mutants of each."""

BENCH = """
module bench;
    reg CLK = 0;
    wire ICE_27;
    integer half, pulses = 0, unknown = 0;
    reg before;
    chip chip ({ports});
    initial begin
        #1 before = ICE_27;
        for (half = 0; half < {halves}; half = half + 1) begin
            CLK = ~CLK;
            #1 if (ICE_27 === 1 && before === 0) pulses = pulses + 1;
            if (ICE_27 !== 1 && ICE_27 !== 0) unknown = unknown + 1;
            before = ICE_27;
            case (half)
                {marks}: $display("pulses %0d", pulses);
            endcase
        end
        $display("unknown %0d", unknown);
    end
endmodule
"""


class Incomparable(Exception):
    """The other simulator can't say; the message says why."""


def missing(tools: tuple[str, ...]) -> list[str]:
    """Those of the programs that aren't installed."""
    return [tool for tool in tools if shutil.which(tool) is None]


def run(*command: str, folder: Path, seconds: float = 100) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds,
        env=os.environ | {"PYTHONHASHSEED": "0"},  # icebox_vlog writes sets in their order
    )
    return done.stdout


def simulate(bitstream: bytes, marks: tuple[int, ...], folder: Path) -> list[int]:
    """Rising edges after so many clock cycles each, counted before and after every half cycle.

    Raises:
        Incomparable: ``icebox_vlog`` does not know a primitive, nothing drives the pin, a loop does
            not come to rest, or the pin shows ``x``: a latch before it is set, for example, has no
            value there and is 0 with us.
    """
    (folder / "chip.bin").write_bytes(bitstream)
    (folder / "chip.pcf").write_text("set_io CLK 35\nset_io ICE_27 27\n")
    run("iceunpack", "chip.bin", "chip.asc", folder=folder)
    try:
        verilog = run("icebox_vlog", "-s", "-p", "chip.pcf", "chip.asc", folder=folder)
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1]
        raise Incomparable(f"icebox_vlog gives up: {last}") from error
    ports = re.search(r"module chip \((.*?)\);", verilog, re.DOTALL)
    names = [port.split()[-1] for port in ports[1].split(",")] if ports is not None else []
    if "ICE_27" not in names:
        raise Incomparable("nothing drives the pin")
    wired = {"CLK": "CLK", "ICE_27": "ICE_27"}
    connected = ", ".join(f".{name}({wired.get(name, '1')})" for name in names)
    verilog = comparable(verilog)
    last_halves = ", ".join(str(2 * mark - 1) for mark in marks)
    bench = BENCH.format(ports=connected, halves=2 * max(marks), marks=last_halves)
    (folder / "bench.v").write_text(verilog + bench)
    try:
        run("iverilog", "-o", "bench.vvp", "-s", "bench", "bench.v", folder=folder)
        lines = run("vvp", "-n", "bench.vvp", folder=folder, seconds=20).split("\n")
    except subprocess.CalledProcessError as error:
        raise Incomparable("iverilog refuses it") from error
    except subprocess.TimeoutExpired as error:
        raise Incomparable("a loop does not come to rest") from error
    said = [line.split() for line in lines if line]
    unknown = [int(count) for word, count in said if word == "unknown"]
    if unknown != [0]:
        raise Incomparable("the pin shows x")
    return [int(count) for word, count in said if word == "pulses"]


def comparable(verilog: str) -> str:
    """The module of ``icebox_vlog``, with two things settled that it leaves open.

    There are no clock edges at time 0, when ``x`` becomes 0 or 1 and Verilog leaves open who sees
    that; asynchronous resets that are on from the first do. And wires that nothing drives, such as
    the carry of a cell that has none, are 0 as with us, not ``x``.
    """
    verilog = re.sub(r"(always @\((?:pos|neg)edge \w+\)) ", r"\1 if ($time) ", verilog)
    reset = r"(, posedge \w+\) if \(\w+\) \w+ <= 1'b[01]; else) "
    verilog = re.sub(reset, r"\1 if ($time) ", verilog)
    declared = re.findall(r"^wire (.*?);", verilog, re.MULTILINE | re.DOTALL)
    wires = {name.strip() for names in declared for name in names.split(",")}
    wires -= {*re.findall(r"assign (\w+) *=", verilog), *re.findall(r"input (\w+)", verilog)}
    tied = "".join(f"assign {wire} = 1'b0;\n" for wire in sorted(wires))
    return verilog.replace("endmodule", f"{tied}endmodule")


def build(verilog: str, folder: Path) -> bytes:
    """The bitstream of a circuit."""
    (folder / "top.v").write_text(verilog)
    shutil.copy(CORPUS / "circuit.pcf", folder)
    run("yosys", "-q", "-p", "synth_ice40 -top top -json top.json", "top.v", folder=folder)
    pnr = "nextpnr-ice40 -q --force --up5k --package sg48 --seed 1 --pcf circuit.pcf"
    run(*pnr.split(), "--json", "top.json", "--asc", "top.asc", folder=folder)
    run("icepack", "top.asc", "top.bin", folder=folder)
    return (folder / "top.bin").read_bytes()


def mutant(bitstream: bytes, seed: int | str) -> bytes:
    """The bitstream with some bits flipped where the circuit is, and its checksum made right."""
    random = Random(seed)
    nothing = named("constant")  # a chip without a circuit has bits set as well, and nearly all
    cram = [write for write in bank_writes(bitstream) if write.memory == "cram"]
    bytes_of_cram = [at for w in cram for at in range(w.start, w.start + w.size)]
    places = [at for at in bytes_of_cram if bitstream[at] != nothing[at]]
    data = bytearray(bitstream)
    for _ in range(random.choice((1, 2, 4, 8))):
        data[random.choice(places)] ^= 1 << random.randrange(8)
    return with_crc(bytes(data))


def named(name: str) -> bytes:
    """A bitstream of the corpus, or a mutant of one: ``name`` or ``name mutant number``."""
    circuit, _, number = name.partition(" mutant ")
    bitstream = gzip.decompress((CORPUS / f"{circuit}.bin.gz").read_bytes())
    return mutant(bitstream, name) if number else bitstream


def names() -> list[str]:
    """All that is kept."""
    circuits = sorted(path.name.removesuffix(".bin.gz") for path in CORPUS.glob("*.bin.gz"))
    return circuits + [f"{name} mutant {i}" for name in MUTATED for i in range(MUTANTS)]


def counted(bitstream: bytes) -> list[int] | str:
    """What the other simulator counts, or why it does not."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return simulate(bitstream, MARKS, Path(folder))
        except Incomparable as reason:
            return str(reason)


def main() -> None:
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda name: (name, counted(named(name))), names())
        lines = [f"  {json.dumps(name)}: {json.dumps(result)}" for name, result in results]
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
