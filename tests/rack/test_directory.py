from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import (
    BoardFile,
    Mode,
    RackBoard,
    RackFile,
    edit_rack_file,
    is_port,
    read_board_file,
    read_boards,
    read_rack_file,
    write_board_file,
    write_rack_file,
)
from icebus.schemas.errors import InvalidRequest


def board(port: str) -> BoardFile:
    return BoardFile(
        port=port,
        serial="E6616407E3000000",
        vid=0x1209,
        pid=0xB1C0,
        product="pico-ice",
        chip=Chip.RP2040,
        mode=Mode.APPLICATION,
        session="0",
        tty="tty",
    )


def test_given_committed_boards_when_read_then_they_come_in_the_order_of_ports(
    tmp_path: Path,
) -> None:
    for port in ("1-1.10", "1-1.2", "1-1.1"):
        (tmp_path / port).mkdir()
        write_board_file(tmp_path / port, board(port))
    (tmp_path / "1-1.3").mkdir()
    (tmp_path / "other").mkdir()

    assert read_boards(tmp_path) == [board("1-1.1"), board("1-1.2"), board("1-1.10")]
    assert read_boards(tmp_path / "missing") == []


@pytest.mark.parametrize("content", ["", "{", '{"port": "1-1.1"}', "null", "\xff"])
def test_given_a_torn_board_file_when_read_then_the_board_is_not_there_yet(
    tmp_path: Path, content: Any
) -> None:
    (tmp_path / "device.json").write_text(content, encoding="latin-1")

    assert read_board_file(tmp_path) is None


def test_given_no_rack_file_when_read_then_there_is_none(tmp_path: Path) -> None:
    assert read_rack_file(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"boards": [',
        '{"boards": [{"port": "../x", "serial": "a"}]}',
        '{"boards": [{"port": "1-1", "serial": "a"}, {"port": "1-1", "serial": "b"}]}',
        '{"bords": []}',
    ],
)
def test_given_a_rack_file_that_is_none_when_read_then_the_error_names_it(
    tmp_path: Path, content: Any
) -> None:
    (tmp_path / "rack.json").write_text(content)

    with pytest.raises(InvalidRequest, match=r"rack\.json is not a rack file"):
        read_rack_file(tmp_path)


def test_given_a_rack_when_written_then_read_back_and_nothing_else_left(tmp_path: Path) -> None:
    rack = RackFile(boards=(RackBoard(port="1-1.1", serial="A", chip=Chip.RP2350),))

    write_rack_file(tmp_path, rack)

    assert read_rack_file(tmp_path) == rack
    assert [path.name for path in tmp_path.iterdir()] == ["rack.json"]
    assert json.loads((tmp_path / "rack.json").read_text())["boards"][0]["firmware"] == "icebus"


def test_given_many_editors_at_once_when_done_then_no_edit_is_lost(tmp_path: Path) -> None:
    def add(index: int) -> None:
        new = RackBoard(port=f"1-1.{index}", serial=str(index))
        edit_rack_file(tmp_path, lambda rack: RackFile(boards=(*rack.boards, new)))

    threads = [threading.Thread(target=add, args=(index,)) for index in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    rack = read_rack_file(tmp_path)
    assert rack is not None
    assert {b.serial for b in rack.boards} == {str(index) for index in range(20)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("1-1.2", True), ("12-1", True), ("1-1.2.3", True), ("1-1\n", False), ("1-", False)],
)
def test_given_a_folder_name_when_asked_then_only_ports_are_ports(name: Any, expected: Any) -> None:
    assert is_port(name) is expected
