"""The firmware's own inflater, compiled for this machine and compared with zlib."""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "worker" / "firmware" / "source"
CIRCUITS = sorted((ROOT / "examples" / "circuits").glob("*.bin"))
DONE, DAMAGED, STOPPED = range(3)
MATCH = 258
ROOM = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)

STRATEGIES = [
    zlib.Z_DEFAULT_STRATEGY,
    zlib.Z_FILTERED,
    zlib.Z_HUFFMAN_ONLY,
    zlib.Z_RLE,
    zlib.Z_FIXED,
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc) to build the inflater with")
    path = tmp_path_factory.mktemp("inflate") / "inflate.so"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-fsanitize=undefined"]
    options += ["-fno-sanitize-recover=undefined", "-o", str(path)]
    subprocess.run([compiler, *options, str(SOURCE / "inflate.c")], check=True)
    return ctypes.CDLL(str(path))


def inflate(
    library: ctypes.CDLL, packed: bytes, size: int, piece: int = 2048, stop_after: int | None = None
) -> tuple[int, bytes]:
    """What comes out, with room given piece by piece as the firmware does."""
    margin = b"\xa5" * 64
    buffer = ctypes.create_string_buffer(size + len(margin))
    ctypes.memmove(ctypes.addressof(buffer) + size, margin, len(margin))
    start = ctypes.addressof(buffer)
    asked: list[int] = []

    def room(written: int) -> int | None:
        asked.append(written)
        if stop_after is not None and len(asked) > stop_after:
            return None
        return min(written + max(piece, MATCH), start + size)

    status = library.inflate(
        packed, ctypes.c_size_t(len(packed)), buffer, ctypes.c_size_t(size), ROOM(room)
    )
    assert buffer.raw[size : size + len(margin)] == margin, "it wrote beyond the end"
    return int(status), buffer.raw[:size]


def deflated(data: bytes, level: int = 9, strategy: int = 0, window: int = 15) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, -window, 9, strategy)
    return compressor.compress(data) + compressor.flush()


@given(
    data=st.one_of(
        st.binary(max_size=3000),
        st.lists(st.sampled_from([b"\0" * 300, b"ab", b"\xff", b"seven b"]), max_size=40).map(
            b"".join
        ),
    ),
    level=st.integers(0, 9),
    strategy=st.sampled_from(STRATEGIES),
    piece=st.integers(0, 2048),
)
def test_given_any_bytes_however_deflated_when_inflated_then_they_come_back(
    library: Any, data: Any, level: Any, strategy: Any, piece: Any
) -> None:
    assert inflate(library, deflated(data, level, strategy), len(data), piece) == (DONE, data)


@pytest.mark.parametrize("path", CIRCUITS, ids=lambda path: path.stem)
@pytest.mark.parametrize("window", [9, 12, 15])
@pytest.mark.parametrize("density", [0, 0.01, 0.3])
def test_given_a_bitstream_when_inflated_then_it_comes_back(
    library: Any, path: Path, window: int, density: float
) -> None:
    chance = random.Random(density)
    data = bytes(
        chance.getrandbits(8) if chance.random() < density else byte for byte in path.read_bytes()
    )

    assert inflate(library, deflated(data, window=window), len(data)) == (DONE, data)


@given(data=st.data())
@settings(max_examples=300)
def test_given_damage_when_inflated_then_it_ends_and_stays_within_its_buffer(
    library: Any, data: Any
) -> None:
    packed = bytearray(deflated(b"some bytes, some more bytes" * 20 + bytes(2000)))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    end = data.draw(st.integers(0, len(packed)))

    status, _ = inflate(library, bytes(packed[:end]), 2540)

    assert status in (DONE, DAMAGED)


@given(st.binary(max_size=400))
def test_given_bytes_of_anything_when_inflated_then_it_ends(library: Any, packed: Any) -> None:
    status, _ = inflate(library, packed, 1000)

    assert status in (DONE, DAMAGED)


@pytest.mark.parametrize("size", [999, 1001])
def test_given_another_size_than_announced_when_inflated_then_it_is_damaged(
    library: Any, size: int
) -> None:
    assert inflate(library, deflated(bytes(1000)), size)[0] == DAMAGED


@pytest.mark.parametrize("level", [0, 9])
def test_given_no_more_room_when_inflating_then_it_stops(library: Any, level: int) -> None:
    data = random.Random(1).randbytes(8000)

    assert inflate(library, deflated(data, level), len(data), stop_after=2)[0] == STOPPED


def test_given_thousands_of_empty_blocks_when_inflating_then_other_things_are_done_meanwhile(
    library: Any,
) -> None:
    blocks = 5000
    # Ten bits each: not the last, fixed codes, end of block.
    packed = sum(0b10 << 10 * place for place in range(blocks)).to_bytes(blocks * 10 // 8, "little")

    assert inflate(library, packed, 1000, stop_after=blocks - 1)[0] == STOPPED
    assert inflate(library, packed, 1000)[0] == DAMAGED
