"""Dividers counted in intervals give what simulating every step gives."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from icebus.fpga._engines.synchronous import divider
from icebus.fpga._engines.synchronous.cubes import steps_to
from icebus.fpga._engines.synchronous.divider import Divider
from icebus.fpga._engines.synchronous.period_search import PeriodSearch
from icebus.fpga._state_machine.state_machine import STATE, StateMachine, StateMachineBuilder

XOR, XNOR, AND, OR, INVERT, MUX = 0b0110, 0b1001, 0b1000, 0b1110, 0b01, 0xCA


def circuit(bits: int, last: int, free: int, start: int, down: bool, output: int) -> StateMachine:
    """A counter that takes the value ``start`` once it is ``last`` in all bits but the free ones.

    Its output is a flip-flop that toggles then, or a bit of the counter.
    """
    builder = StateMachineBuilder(bits + 1)
    at_end = 1
    for i in range(bits):
        if not free >> i & 1:
            at_end = builder.gate(0b1000 if last >> i & 1 else 0b0100, (STATE + i, at_end))
    following = []
    carry = int(not down)
    for i in range(bits):
        turned = builder.gate(XNOR if down else XOR, (STATE + i, carry))
        following.append(builder.gate(MUX, (turned, start >> i & 1, at_end)))
        carry = builder.gate(OR if down else AND, (STATE + i, carry))
    pulse = STATE + bits
    following.append(builder.gate(XOR, (pulse, at_end)))
    counted = {-1: pulse, -2: builder.gate(INVERT, (pulse,))}.get(output, STATE + output)
    return builder.state_machine(following, counted)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_given_a_counter_with_a_comparison_then_its_stretches_count_what_simulating_does(
    data: st.DataObject,
) -> None:
    bits = data.draw(st.integers(5, 11))
    value = st.integers(0, (1 << bits) - 1)
    machine = circuit(
        bits,
        last=data.draw(value),
        free=data.draw(st.just(0) | value),
        start=data.draw(st.just(0) | value),
        down=data.draw(st.booleans()),
        output=data.draw(st.integers(-2, bits - 1)),
    )
    plainly = PeriodSearch(machine)
    found = divider.recognise(machine)
    for cycles in [*range(9), *data.draw(st.lists(st.integers(0, 20_000), max_size=8))]:
        if found is not None:
            assert found.extended_to(cycles).count(cycles) == plainly.count(cycles)
            start = cycles // 3
            until_then = found.extended_to(cycles).count(cycles - start, start)
            assert until_then == plainly.count(cycles - start, start)


def test_given_dividers_as_they_are_written_then_they_are_recognised() -> None:
    for down in (False, True):
        for last in (100, 3000, 4094):
            machine = circuit(12, last, free=0, start=0, down=down, output=-1)
            found = divider.recognise(machine)
            assert found is not None
            assert isinstance(found.extended_to(48_000_000), Divider)


def test_given_too_many_stretches_then_it_is_simulated() -> None:
    machine = circuit(12, last=5, free=0b1111_1111_0000, start=0, down=False, output=11)
    found = divider.recognise(machine)
    assert found is None or found.extended_to(1_000_000).count(1_000_000) == (0, True)


@given(st.data())
def test_given_a_cube_then_the_steps_to_it_are_those_of_counting(data: st.DataObject) -> None:
    bits = data.draw(st.integers(1, 7))
    value = st.integers(0, (1 << bits) - 1)
    start, given_bits = data.draw(value), data.draw(value)
    wanted = data.draw(value) & given_bits

    steps = next(
        n for n in range(1, (1 << bits) + 1) if (start + n) % (1 << bits) & given_bits == wanted
    )

    assert steps_to(start, given_bits, wanted, bits) == steps
