"""Racks have serials of their own, the same ones after each start."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from icebus.rack.identity import ID_FILE, rack_id
from icebus.rack.layout import ChipChoice, layout, of_rack, seeded
from icebus.schemas.boards.rack import FLASH_ID_PATTERN
from icebus.schemas.errors import InvalidRequest

if TYPE_CHECKING:
    from pathlib import Path


def serials(name: str, count: int = 1000, chips: ChipChoice = ChipChoice.MIXED) -> list[str]:
    return [board.serial for board in layout(count, chips, "icebus", of_rack(name), 3).boards]


def test_given_two_racks_then_they_share_no_serial_and_each_keeps_its_own(tmp_path: Path) -> None:
    first, second = (rack_id(tmp_path / name) for name in ("a", "b"))

    assert (rack_id(tmp_path / "a"), rack_id(tmp_path / "b")) == (first, second)
    assert len({*serials(first), *serials(second)}) == 2 * len(serials(first))
    assert all(re.fullmatch(FLASH_ID_PATTERN, serial) for serial in serials(first))


def test_given_a_rack_of_rp2040_then_its_serials_show_the_rack_and_count_the_boards() -> None:
    assert serials("4F09C12A", 2, ChipChoice.RP2040)[:2] == [
        "E6614F09C12A0001",
        "E6614F09C12A0002",
    ]


def test_given_a_seed_then_serials_are_the_same_in_every_rack() -> None:
    boards = layout(2, ChipChoice.RP2040, "icebus", seeded(0)).boards

    assert [board.serial for board in boards] == ["E6616407E3545091", "E6616407E308B9E2"]


def test_when_many_ask_at_once_for_the_id_of_a_new_rack_then_all_get_the_same(
    tmp_path: Path,
) -> None:
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: rack_id(tmp_path / "new"), range(64)))) == 1
    assert [path.name for path in (tmp_path / "new").iterdir()] == [ID_FILE]


@pytest.mark.parametrize("text", ["", "x" * 70_000, "4f09c12a", "../../etc", "4F09C12A4"])
def test_given_something_else_in_its_place_then_it_is_refused_with_the_remedy(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / ID_FILE).write_text(text)

    with pytest.raises(InvalidRequest, match="remove it"):
        rack_id(tmp_path)


def test_given_a_link_or_a_folder_in_its_place_then_it_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("4F09C12A\n")
    for name in ("link", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "link" / ID_FILE).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "folder" / ID_FILE).mkdir()

    with pytest.raises(InvalidRequest, match="it is a link"):
        rack_id(tmp_path / "link")
    with pytest.raises(InvalidRequest, match="directory"):
        rack_id(tmp_path / "folder")
