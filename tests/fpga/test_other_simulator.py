"""The same bitstreams, turned into Verilog by Project IceStorm and run by Icarus Verilog.

Where that simulator has no answer, it says why (see ``Incomparable``); where ours has none, or none
that claims to be exact, there is nothing to compare either. Both are counted, so that what is left
to compare can't become less unnoticed.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from tests.fpga import generated
from tests.fpga import other_simulator as other

from icebus.fpga import _simulate, simulate
from icebus.fpga._engines.synchronous import period_search
from icebus.schemas.errors import BitstreamUnsupported

pytestmark = pytest.mark.slow

KEPT: dict[str, list[int] | str] = json.loads(other.KEPT.read_text())


def need(tools: tuple[str, ...]) -> None:
    missing = other.missing(tools)
    if missing:
        reason = f"needs {', '.join(missing)}; script/bootstrap --fpga installs them"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def simulator() -> None:
    """The programs of the other simulator: absent, a skip here and a failure in CI."""
    need(other.TOOLS)


@pytest.fixture
def tools() -> None:
    """These, and those that make bitstreams."""
    need((*other.BUILD_TOOLS, *other.TOOLS))


@pytest.fixture(autouse=True)
def from_configuration_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other simulator counts what happens while the FPGA wakes up, too."""
    monkeypatch.setattr(_simulate, "COUNTING_STARTS", 0)


def ours(bitstream: bytes, marks: tuple[int, ...]) -> list[int] | str:
    """What we count, or why there is nothing to compare."""
    try:
        counts = [simulate(bitstream, cycles=cycles) for cycles in marks]
    except BitstreamUnsupported as error:
        return f"unsupported: {error.details['primitive']}"
    if all(measured.exact for measured in counts):
        return [measured.pulses for measured in counts]
    return f"inexact: {counts[-1].note}"


def test_given_what_the_other_simulator_counted_then_we_count_the_same() -> None:
    compared: Counter[str] = Counter()
    assert list(KEPT) == other.names()
    for name, expected in KEPT.items():
        counted = ours(other.named(name), other.MARKS)
        if isinstance(expected, str):
            compared[expected.split(":")[0]] += 1
        elif isinstance(counted, str):
            compared[counted.split(":")[0]] += 1
        else:
            assert counted == expected, name
            compared["mutant" if "mutant" in name else "circuit"] += 1
            compared["moving"] += expected[-1] > 0
    assert compared["circuit"] >= 25, compared
    assert compared["mutant"] >= 30, compared
    assert compared["moving"] >= 43, compared


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize("name", ["async_set mutant 0"])
def test_given_the_other_simulator_then_it_counts_what_is_kept(name: str) -> None:
    assert other.counted(other.named(name)) == KEPT[name]


@pytest.mark.usefixtures("tools")
def test_given_generated_circuits_then_both_simulators_count_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(period_search, "BUDGET", 1_000_000_000)  # sixteen circuits in one
    verilog, kinds = generated.design(seed=1)
    assert set(kinds) == {kind.__name__ for kind in generated.KINDS}
    bitstream = other.build(verilog, tmp_path)
    windows = tuple(range(generated.WINDOW, (len(kinds) + 1) * generated.WINDOW, generated.WINDOW))
    expected = other.simulate(bitstream, windows, tmp_path)
    counted = ours(bitstream, windows)
    assert isinstance(counted, list), counted
    differing = [
        (kind, before, after)
        for kind, before, after in zip(kinds, counted, expected, strict=True)
        if before != after
    ]
    assert not differing
    pulses = [after - before for before, after in zip((0, *expected), expected, strict=False)]
    assert sum(each > 1 for each in pulses) > generated.CIRCUITS // 2


@pytest.mark.usefixtures("tools")
def test_given_mutants_of_generated_circuits_then_both_simulators_count_the_same(
    tmp_path: Path,
) -> None:
    verilog, _ = generated.design(seed=2, kinds=generated.ONE_CLOCK)
    bitstream = other.build(verilog, tmp_path)
    marks = tuple(range(500, generated.CIRCUITS * generated.WINDOW, 500))
    for seed in range(3):  # until one can be compared
        mutant = other.mutant(bitstream, seed)
        counted = ours(mutant, marks)
        if isinstance(counted, list):
            with suppress(other.Incomparable):
                assert counted == other.simulate(mutant, marks, tmp_path), seed
                return
    pytest.fail("no mutant could be compared")
