from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.firmware.emulated_board import EmulatedBoard, Host, emulated_board, skip_unless_built

CIRCUITS = Path(__file__).parents[2] / "examples" / "circuits"


@pytest.fixture(scope="module")
def powered_board() -> Iterator[EmulatedBoard]:
    skip_unless_built()
    with emulated_board() as board:
        yield board


@pytest.fixture
def board(powered_board: EmulatedBoard) -> EmulatedBoard:
    """A board with its power just switched on, and nobody at its port."""
    powered_board.command("power")
    powered_board.wait_for("application")
    return powered_board


@pytest.fixture
def host(board: EmulatedBoard) -> Iterator[Host]:
    with board.opened() as host:
        yield host


@pytest.fixture(params=[2, 8, 32])
def frequency_khz(request: pytest.FixtureRequest) -> int:
    assert isinstance(request.param, int)
    return request.param


@pytest.fixture
def bitstream() -> bytes:
    """A circuit that rises 8000 times a second."""
    return circuit(8)


def circuit(khz: int) -> bytes:
    return (CIRCUITS / f"pulse_{khz}khz.bin").read_bytes()
