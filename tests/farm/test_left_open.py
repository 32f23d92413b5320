"""Programs that end without closing their clients, as scripts and notebooks do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.farm.conftest import Machine

BEGIN = """
import sys
from icebus.client import PulseCountClient

client = PulseCountClient()
boards = client.reserve(1)
"""

ENDINGS = {
    "after a run": "print(len(list(boards.map([sys.argv[1]] * 2))))",
    "in a run": "run = boards.evaluate([sys.argv[1]] * 9); print(next(run).pulses)",
    "by an exit": "print(len(list(boards.map([sys.argv[1]])))); sys.exit(0)",
    "without names": "del client; print(len(list(boards.map([sys.argv[1]]))))",
}

AGAIN = """
import subprocess, sys
for _ in range(3):
    subprocess.run([sys.executable, "-c", *sys.argv[1:]], check=True)
"""


@pytest.mark.parametrize("ending", ENDINGS)
def test_given_a_client_that_is_open_when_its_program_ends_then_its_boards_are_free_at_once(
    machine: Machine, circuits: Sequence[Path], ending: str
) -> None:
    program = [sys.executable, "-c", AGAIN, BEGIN + ENDINGS[ending], str(circuits[0])]
    done = machine.run("up", "--boards", "1", "--speedup", "50", "--", *program)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
