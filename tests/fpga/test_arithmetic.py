"""The parts that the counts rest on, each against its plainest definition."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.fpga._cache import SizedCache
from icebus.fpga._engines.synchronous import array_waveforms, integer_waveforms
from icebus.fpga._engines.synchronous.accumulator import Accumulator
from icebus.fpga._engines.synchronous.lfsr import LinearSequence
from icebus.fpga._netlist.truth_tables import compile_table, compose, fold, is_affine

STEPS = 256
WAVE = st.integers(0, (1 << STEPS) - 1)
SPARSE = st.builds(lambda a, b, c: a & b & c, WAVE, WAVE, WAVE)
TABLE = st.integers(0, 0xFFFF)


def plain_scan(if_zero: int, if_one: int, state: int) -> int:
    result = 0
    for step in range(STEPS):
        state = (if_one if state else if_zero) >> step & 1
        result |= state << step
    return result


@given(WAVE | SPARSE, WAVE | SPARSE, st.integers(0, 1), st.booleans())
def test_given_what_a_bit_becomes_then_a_scan_is_what_stepping_gives(
    if_zero: int, if_one: int, first: int, toggles: bool
) -> None:
    ones = (1 << STEPS) - 1
    if toggles:
        if_one = if_zero ^ ones
    expected = plain_scan(if_zero, if_one, first)
    assert integer_waveforms.scan(if_zero, if_one, first, STEPS, ones) == expected
    count = STEPS // 64
    zero, one = (array_waveforms.from_integer(wave, count) for wave in (if_zero, if_one))
    following = array_waveforms.scan(zero, one, first, count)
    assert array_waveforms.to_integer(following, count) == expected
    late = array_waveforms.delayed(following, first, count)
    assert array_waveforms.to_integer(late, count) == integer_waveforms.delayed(
        expected, first, ones
    )


@given(st.integers(0, 2**64 - 1), st.integers(0, 1), st.booleans())
def test_given_a_short_wave_then_it_stands_for_its_repetition(
    word: int, first: int, toggles: bool
) -> None:
    count = STEPS // 64
    short = array_waveforms.from_integer(word, 1)
    other = short ^ array_waveforms.ONES if toggles else short
    repeated = integer_waveforms.repeated(word, 64, STEPS)
    expected = integer_waveforms.scan(
        repeated,
        repeated ^ ((1 << STEPS) - 1 if toggles else 0),
        first,
        STEPS,
        (1 << STEPS) - 1,
    )
    following = array_waveforms.scan(short, other, first, count)
    assert array_waveforms.to_integer(following, count) == expected
    late = array_waveforms.delayed(following, first, count)
    assert array_waveforms.to_integer(late, count) == expected << 1 & (1 << STEPS) - 1 | first


@given(TABLE, st.integers(1, 4), WAVE, WAVE, WAVE, WAVE)
def test_given_a_truth_table_then_its_function_looks_every_step_up(
    table: int, width: int, a: int, b: int, c: int, d: int
) -> None:
    table &= (1 << (1 << width)) - 1
    result = compile_table(table, width)(a, b, c, d, (1 << STEPS) - 1)
    for step in range(0, STEPS, 17):
        row = sum((wave >> step & 1) << pin for pin, wave in enumerate((a, b, c, d)[:width]))
        assert result >> step & 1 == table >> row & 1


@given(TABLE, st.lists(st.integers(0, 6), min_size=4, max_size=4), st.integers(0, 31))
def test_when_a_gate_is_folded_then_it_stays_the_same_function(
    table: int, inputs: list[int], values: int
) -> None:
    value = [0, 1, *(values >> i & 1 for i in range(5))]
    folded, left = fold(table, tuple(inputs))
    assert len(set(left)) == len(left)
    assert not {0, 1} & set(left)

    def look_up(table: int, inputs: tuple[int, ...]) -> int:
        return table >> sum(value[i] << pin for pin, i in enumerate(inputs)) & 1

    assert look_up(folded, left) == look_up(table, tuple(inputs))


@given(st.integers(0, 255), st.integers(0, 15), st.integers(0, 15))
def test_when_a_gate_is_taken_into_another_then_both_are_computed(
    outer: int, inner: int, row: int
) -> None:
    # outer(x, inner(y, z), w) of the common inputs (x, y, z, w)
    table = compose(outer, (0, -1, 3), inner, (1, 2), 4)
    x, y, z, w = (row >> i & 1 for i in range(4))
    between = inner >> (y | z << 1) & 1
    assert table >> row & 1 == outer >> (x | between << 1 | w << 2) & 1


@given(st.integers(0, 255))
def test_given_a_table_then_it_is_affine_if_it_is_a_sum(table: int) -> None:
    sums = set()
    for mask in range(8):
        parity = sum((bin(row & mask).count("1") & 1) << row for row in range(8))
        sums |= {parity, parity ^ 0xFF}
    assert is_affine(table, 3) == (table in sums)


@pytest.mark.parametrize(("size", "taps"), [(8, 0xB8), (17, 0x12000), (24, 0xE10000), (3, 0)])
def test_given_the_start_of_a_shift_register_then_it_goes_on_the_same_way(
    size: int, taps: int
) -> None:
    state, bits = 1, []
    for _ in range(20_000):
        bits.append(state & 1)
        state = state >> 1 | ((state & taps).bit_count() + 1 & 1) << (size - 1)
    sequence = LinearSequence(bits[: 2 * size + 4])
    for start, steps in [(0, 100), (13, 64), (19_000, 999), (5, 19_995)]:
        wave = sequence.waveform(start, steps)
        assert [wave >> i & 1 for i in range(steps)] == bits[start : start + steps]


@pytest.mark.parametrize("seed", range(20))
def test_given_an_accumulator_then_its_pulses_are_those_of_stepping(seed: int) -> None:
    random = Random(seed)
    for _ in range(40):
        bits = random.randint(1, 7)
        accumulator = Accumulator(
            bits,
            random.randrange(1, 1 << bits),
            tuple(random.random() < 0.5 for _ in range(random.randint(0, 3))),
            random.random() < 0.5,
        )
        register, delays = 0, [0] * len(accumulator.delays)
        level, pulses = -1, 0
        for step in range(50):
            highest = register >> (bits - 1)
            before, level = level, (delays or [highest])[0] ^ accumulator.inverted
            pulses += before == 0 and level == 1
            assert accumulator.count(step) == pulses
            sources = [*delays, highest][1:]
            delays = [s ^ i for s, i in zip(sources, accumulator.delays, strict=False)]
            register = (register + accumulator.increment) % (1 << bits)


def test_given_more_than_there_is_room_for_then_what_was_not_used_goes_first() -> None:
    cache: SizedCache[str, int] = SizedCache(10)
    cache.put("a", 1, 4)
    cache.put("b", 2, 4)
    cache.put("a", 1, 5)
    cache.put("c", 3, 5)
    assert cache.get("b") is None
    assert (cache.get("a"), cache.get("c"), len(cache)) == (1, 3, 2)
    cache.put("d", 4, 50)
    assert (cache.get("d"), len(cache)) == (4, 1)
