"""Bitstreams that can't be read or named, and pipes that nobody writes to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from icebus.client._evaluating.bitstreams import as_sources, load
from icebus.client._evaluating.running.withdrawing import in_words
from icebus.client.cli import stdin
from icebus.client.cli.commands.evaluating.bitstream_reading import read_all
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.measuring import Withdrawn


def test_given_a_file_whose_name_is_not_utf_8_when_read_then_the_error_names_the_remedy(
    tmp_path: Path, circuits: list[Path]
) -> None:
    path = tmp_path / "a\udcff.bin"
    path.write_bytes(circuits[0].read_bytes())
    for read in (lambda: load(path), lambda: read_all([path], validate=True)):
        with pytest.raises(InvalidRequest, match="rename the file"):
            read()


def test_given_a_folder_whose_name_is_not_utf_8_when_read_then_its_files_are_taken(
    tmp_path: Path, circuits: list[Path]
) -> None:
    folder = tmp_path / "a\udcff"
    folder.mkdir()
    (folder / "b.bin").write_bytes(circuits[0].read_bytes())
    (read,) = read_all([folder / "b.bin"], validate=True)
    assert read.name == "b.bin"
    assert str(read.annotations["file"]).endswith("a\\udcff/b.bin")


def test_given_content_for_a_path_when_it_can_not_be_read_then_the_error_is_short() -> None:
    with pytest.raises(InvalidRequest) as caught:
        load("7e" * 100_000)
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("given", [None, 5, 1.5, object()])
def test_given_nothing_that_has_bitstreams_when_measured_then_the_error_is_typed(
    given: object,
) -> None:
    with pytest.raises(InvalidRequest, match="a list"):
        as_sources(given)  # type: ignore[arg-type]


def test_given_a_pipe_that_nobody_writes_to_when_read_then_it_is_said_what_is_waited_for(
    tmp_path: Path, circuits: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    told: list[str] = []

    def write(message: str) -> None:
        """Once it is said, somebody writes."""
        told.append(message)
        pipe.write_bytes(circuits[0].read_bytes())

    monkeypatch.setattr(stdin, "TOLD_AFTER", 0.01)
    monkeypatch.setattr(stdin, "print_message", write)
    (read,) = read_all([pipe], validate=True)
    read.check()
    assert told == [f"icebus: waiting for a bitstream to be written to {pipe}"]


def test_given_a_reservation_that_ends_with_its_run_then_nothing_is_called_kept() -> None:
    given_up = Withdrawn(withdrawn=8, measuring=2)
    assert "kept" in in_words(given_up)
    assert "kept" not in in_words(given_up, kept=False)


def test_given_a_name_when_it_is_long_then_it_is_kept_whole_or_refused_and_never_cut(
    circuits: list[Path],
) -> None:
    data = circuits[0].read_bytes()

    assert load(("x" * 4096, data)).name == "x" * 4096
    with pytest.raises(InvalidRequest, match="4,096 characters") as caught:
        load(("x" * 4097, data))
    assert len(caught.value.message) < 500
