from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.firmware.emulated_board import EmulatedBoard, Host, emulated_board, skip_unless_built
from tests.firmware.virtual_board import VirtualBoard, virtual_board

CIRCUITS = Path(__file__).parents[2] / "examples" / "circuits"


Board = EmulatedBoard | VirtualBoard
"""What speaks the framed protocol: the image as it is built, and what the rack has for it."""

EMULATED = pytest.param("emulated", marks=pytest.mark.slow)

only_emulated = pytest.mark.parametrize("powered_board", [EMULATED], indirect=True)
"""For tests that do to a board what can't be done to a virtual one."""


@pytest.fixture(scope="module", params=[EMULATED, "virtual"])
def powered_board(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Board]:
    made: AbstractContextManager[Board]
    if request.param == "virtual":
        made = virtual_board(tmp_path_factory.mktemp("rack"))
    else:
        skip_unless_built()
        made = emulated_board()
    with made as board:
        yield board


@pytest.fixture
def board(powered_board: Board) -> Board:
    """A board with its power just switched on, and nobody at its port."""
    powered_board.command("power")
    powered_board.wait_for("application")
    return powered_board


@pytest.fixture
def host(board: Board) -> Iterator[Host]:
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
