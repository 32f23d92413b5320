"""Which files words on the command line mean, and how they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.client.cli.commands.evaluating import bitstream_reading
from icebus.client.cli.commands.evaluating.bitstream_files import find_files, names_of, natural_key
from icebus.client.cli.commands.evaluating.bitstream_reading import BitstreamFiles, open_files
from icebus.client.cli.commands.evaluating.expected import Expected
from icebus.schemas.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with bitstreams, in which we are."""
    monkeypatch.chdir(tmp_path)
    for name in ("g1.bin", "g10.bin", "g2.bin", "note.txt", ".g3.bin", "a/x.bin", "b/x.bin"):
        path = tmp_path / "runs" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def named(*words: str, recursive: bool = False) -> list[str]:
    return [each.name for each in find_files([Path(word) for word in words], recursive=recursive)]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("runs",), ["g1.bin", "g2.bin", "g10.bin"]),
        (("runs/g10.bin", "runs/g2.bin"), ["g10.bin", "g2.bin"]),
        (("runs/*.bin",), ["g1.bin", "g2.bin", "g10.bin"]),
        (("runs/*/x.bin",), ["runs/a/x.bin", "runs/b/x.bin"]),
        (("runs/a", "runs/b", "runs/g1.bin"), ["runs/a/x.bin", "runs/b/x.bin", "g1.bin"]),
        (("runs/[ab]",), ["runs/a/x.bin", "runs/b/x.bin"]),
        (("runs/note.txt", "missing.bin", "-"), ["note.txt", "missing.bin", "-"]),
    ],
)
def test_given_words_when_files_are_sought_then_they_have_an_order_and_names_of_their_own(
    folder: Path, words: tuple[str, ...], names: list[str]
) -> None:
    assert named(*words) == names


def test_given_folders_in_folders_when_asked_to_look_into_them_then_their_files_are_meant(
    folder: Path,
) -> None:
    assert sorted(named("runs", recursive=True)) == [
        *("g1.bin", "g10.bin", "g2.bin", "runs/a/x.bin", "runs/b/x.bin")
    ]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("empty", "no bitstream (*.bin) in this folder"),
        (".", "--recursive looks into its folders, too"),
        ("runs/z*.bin", "no file matches that"),
    ],
)
def test_given_a_word_that_means_no_file_when_sought_then_the_error_says_what_to_do(
    folder: Path, word: str, said: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        named(word)
    assert said in refused.value.message


def test_given_a_file_with_the_name_of_a_pattern_when_sought_then_it_is_meant(folder: Path) -> None:
    (folder / "a[1].bin").touch()
    assert named("a[1].bin") == ["a[1].bin"]


@given(st.lists(st.integers(min_value=0, max_value=10**6), min_size=1, unique=True))
def test_given_numbers_in_names_when_sorted_then_files_stand_in_their_order(
    numbers: list[int],
) -> None:
    paths = sorted((Path(f"run{number}/best.bin") for number in numbers), key=natural_key)
    assert paths == [Path(f"run{number}/best.bin") for number in sorted(numbers)]


@given(st.lists(st.text("ab1²٣/.", min_size=1), min_size=1))
def test_given_any_names_when_sorted_then_they_have_an_order(names: list[str]) -> None:
    paths = list(dict.fromkeys(map(Path, names)))
    backwards = paths[::-1]
    assert sorted(backwards, key=natural_key) == sorted(paths, key=natural_key)


@given(st.lists(st.sampled_from(["a/x", "b/x", "b/y", "c/y", "z"]), unique=True))
def test_given_different_files_when_named_then_their_names_differ(paths: list[str]) -> None:
    assert len(set(names_of(list(map(Path, paths))))) == len(paths)


def test_given_many_files_when_opened_then_each_is_read_in_its_turn_and_a_bad_one_fails_alone(
    tmp_path: Path, circuits: Sequence[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bitstream_reading, "READ_FIRST", 2)
    paths = [tmp_path / f"g{number}.bin" for number in range(3)]
    for path in paths:
        path.write_bytes(circuits[0].read_bytes())
    opened = open_files([tmp_path], validate=True)
    assert isinstance(opened, BitstreamFiles)
    assert opened.names == ["g0.bin", "g1.bin", "g2.bin"]
    paths[0].write_bytes(b"short")
    paths[1].unlink()
    bad, gone, good = opened
    assert "g0.bin" in str(bad.problem)
    assert "No such file" in str(gone.problem)
    good.check()


def test_given_many_files_when_some_can_not_be_read_then_that_is_told_before_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bitstream_reading, "READ_FIRST", 2)
    paths = [tmp_path / f"g{number}.bin" for number in range(50)]
    with pytest.raises(InvalidRequest, match=r"g49\.bin"):
        open_files(paths, validate=True)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 21
    assert "29 more" in told[-1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_given_a_folder_that_can_not_be_read_when_sought_then_the_error_says_so(
    folder: Path,
) -> None:
    (folder / "runs").chmod(0)
    with pytest.raises(InvalidRequest, match="Permission denied"):
        named("runs")


class Outcome:
    def __init__(self, bitstream: str) -> None:
        self.bitstream = bitstream


def test_given_a_run_that_ends_early_when_told_then_it_names_what_was_not_measured() -> None:
    expected = Expected(["a", "b", "c"], ["B1", "B2"], repeats=1)
    for name in ("a", "b", "a"):
        expected.note(Outcome(name))  # type: ignore[arg-type]
    assert expected.missing_in_words() == ("3 of 6 evaluations were not measured: b, c (2 times)")
    many = Expected([f"g{number}" for number in range(30)], [""], repeats=1)
    assert many.missing_in_words().endswith("g9 and 20 bitstreams more")
