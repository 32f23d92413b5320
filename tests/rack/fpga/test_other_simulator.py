"""The same bitstreams, turned into Verilog by Project IceStorm and run by Icarus Verilog."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from icebus.rack.fpga import count
from icebus.schemas.bitstream import bank_writes, with_crc

CYCLES = 3000
TOOLS = ("iceunpack", "icebox_vlog", "iverilog", "vvp")

pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)}"
)

BENCH = """
module bench;
    reg CLK = 0;
    wire ICE_27;
    integer half, pulses = 0;
    reg before;
    chip chip ({ports});
    initial begin
        #1 before = ICE_27;
        for (half = 0; half < {halves}; half = half + 1) begin
            CLK = ~CLK;
            #1 if (ICE_27 & ~before) pulses = pulses + 1;
            before = ICE_27;
        end
        $display("pulses %0d", pulses);
    end
endmodule
"""


def simulate(bitstream: bytes, folder: Path) -> int:
    (folder / "chip.bin").write_bytes(bitstream)
    (folder / "chip.pcf").write_text("set_io CLK 35\nset_io ICE_27 27\n")
    run("iceunpack", "chip.bin", "chip.asc", folder=folder)
    verilog = run("icebox_vlog", "-s", "-p", "chip.pcf", "chip.asc", folder=folder)
    ports = re.search(r"module chip \((.*?)\);", verilog, re.DOTALL)
    assert ports is not None
    wired = {"CLK": "CLK", "ICE_27": "ICE_27"}
    names = [port.split()[-1] for port in ports[1].split(",")]
    connected = ", ".join(f".{name}({wired.get(name, chr(49))})" for name in names)
    bench = BENCH.format(ports=connected, halves=2 * CYCLES)
    (folder / "bench.v").write_text(verilog + bench)
    run("iverilog", "-o", "bench.vvp", "-s", "bench", "bench.v", folder=folder)
    return int(run("vvp", "-n", "bench.vvp", folder=folder).split()[-1])


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout


def test_given_a_mutant_then_both_simulators_count_the_same(
    circuit: Callable[[str], bytes], tmp_path: Path
) -> None:
    data = bytearray(circuit("both_edges"))
    random = Random(3)
    cram = [write for write in bank_writes(bytes(data)) if write.memory == "cram"]
    places = [at for w in cram for at in range(w.start, w.start + w.size) if data[at] & 0xF0]
    for _ in range(3):
        data[random.choice(places)] ^= 1 << random.randrange(8)
    mutant = with_crc(bytes(data))
    measured = count(mutant, CYCLES, 0)
    assert measured.exact
    assert measured.pulses == simulate(mutant, tmp_path)
