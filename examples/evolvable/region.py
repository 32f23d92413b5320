"""Build the oscillator, and find its genes: which bits of the bitstream its truth tables are.

    python region.py

builds it as it is and with the bits of one lookup table turned over after the other (yosys,
nextpnr-ice40 and icepack from PATH; Debian and Ubuntu: apt install yosys nextpnr-ice40
fpga-icestorm). Placed and routed alike, the two bitstreams differ in that table's bits and in the
checksum. Writes oscillator.bin and oscillator.json.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from icebus.schemas.boards.bitstream import bank_writes

HERE = Path(__file__).parent
TABLES, ENTRIES = 8, 16
ALL = (1 << TABLES * ENTRIES) - 1


def build(tables: int, folder: Path) -> bytes:
    """The bitstream of the oscillator with these truth tables."""
    made = {kind: str(folder / f"made.{kind}") for kind in ("json", "asc", "bin")}
    synth = (
        f"read_verilog {HERE / 'oscillator.v'}; chparam -set TABLES 128'h{tables:032x} top; "
        f"synth_ice40 -top top -json {made['json']}"
    )
    place = ["nextpnr-ice40", "-q", "--up5k", "--package", "sg48", "--seed", "1"]
    place += ["--pcf", str(HERE.parent / "circuits" / "pulse.pcf")]
    place += ["--json", made["json"], "--asc", made["asc"]]
    for command in (["yosys", "-q", "-p", synth], place, ["icepack", made["asc"], made["bin"]]):
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return Path(made["bin"]).read_bytes()


def differing(one: bytes, other: bytes) -> list[int]:
    """Positions of the configuration bits that differ, most significant of a byte first."""
    return [
        8 * byte + bit
        for write in bank_writes(one)
        for byte in range(write.start, write.start + write.size)
        for bit in range(8)
        if (one[byte] ^ other[byte]) & (0x80 >> bit)
    ]


def main() -> int:
    """Build, compare, write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = build(ALL, folder)
        genes = []
        for table in range(TABLES):
            without = ALL & ~(0xFFFF << ENTRIES * table)
            found = differing(base, build(without, folder))
            if len(found) != ENTRIES:
                print(f"table {table}: {len(found)} bits differ, not {ENTRIES}", file=sys.stderr)
                return 1
            genes.append(found)
    (HERE / "oscillator.bin").write_bytes(base)
    about = (
        "For each lookup table of oscillator.v, its sixteen bits in oscillator.bin (bit 0 is the "
        "most significant of the first byte), in file order. Made by region.py."
    )
    rows = ",\n".join(f"    {json.dumps(row)}" for row in genes)
    (HERE / "oscillator.json").write_text(
        f'{{\n  "about": {json.dumps(about)},\n  "tables": [\n{rows}\n  ]\n}}\n'
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
