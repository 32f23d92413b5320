"""The genetic search: its genes are where it says, and it finds what it looks for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples import evolve
from icebus.schemas.boards import bitstream

EXAMPLES = Path(__file__).parents[2] / "examples"
TARGET = 2_400
"""Pulses in a window of 20 ms: 120 kHz, which neither the base circuit nor a random one gives."""


def test_given_the_region_when_looked_at_then_it_lies_in_the_configuration_once_each() -> None:
    tables = json.loads((EXAMPLES / "evolvable" / "oscillator.json").read_text())["tables"]
    base = (EXAMPLES / "evolvable" / "oscillator.bin").read_bytes()
    writes = [each for each in bitstream.bank_writes(base) if each.memory == "cram"]
    positions = [position for table in tables for position in table]
    assert [len(table) for table in tables] == [16] * 8
    assert len(set(positions)) == len(positions)
    assert all(
        any(each.start <= position // 8 < each.start + each.size for each in writes)
        for position in positions
    )


def test_given_genes_when_expressed_then_the_bitstream_is_valid_and_differs_in_those_only() -> None:
    size = len(evolve.GENES)
    assert evolve.Individual((True,) * size).data == evolve.BASE
    changed = evolve.Individual((False, *(True,) * (size - 1))).data
    bitstream.validate(changed)
    differing = [
        n for n, pair in enumerate(zip(changed, evolve.BASE, strict=True)) if len({*pair}) > 1
    ]
    gene = evolve.GENES[0] // 8
    assert gene in differing
    assert len(differing) <= 3, "the gene's byte and the checksum"


def test_given_a_farm_when_evolving_then_the_best_comes_nearer_and_is_drawn_and_kept(
    mosquitto: None, tmp_path: Path
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ICEBUS_")}
    environment |= {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    environment |= {"MPLCONFIGDIR": str(tmp_path / "matplotlib")}
    up = [sys.executable, "-m", "icebus.client.cli", "up", "--boards", "3", "--window", "0.02"]
    up += ["--bandwidth", "0"]
    search = [sys.executable, str(EXAMPLES / "evolve.py"), "--boards", "3", "--generations", "5"]
    search += ["--population", "16", "--target", str(TARGET), "--plot", "evolved.png"]
    done = subprocess.run(
        [*up, "--seed", "7", "--", *search],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    best = [
        int(count.replace(",", "")) for count in re.findall(r"best ([\d,]+) pulses", done.stderr)
    ]
    assert len(best) == 5
    errors = [abs(count - TARGET) for count in best]
    assert errors == sorted(errors, reverse=True), "the elite lives on"
    assert errors[-1] < errors[0]
    confirmed = [int(line.split()[2]) for line in done.stdout.splitlines()]
    assert len(confirmed) == 3
    assert all(abs(count - best[-1]) < 0.1 * TARGET for count in confirmed)
    bitstream.validate((tmp_path / "evolved.bin").read_bytes())
    assert_drawn(tmp_path / "evolved.png")


def assert_drawn(picture: Path) -> None:
    image = pytest.importorskip("matplotlib.image").imread(picture)
    height, width, _ = image.shape
    assert width > height > 500
    colours = {tuple(pixel) for row in image[::3, ::3, :3].round(1).tolist() for pixel in row}
    assert len(colours) > 10, "blank"
