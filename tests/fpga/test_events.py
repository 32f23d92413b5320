"""The parts of the simulation with delays, each against its plainest definition."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.fpga._engines.loops.delays import CYCLE, PIO_CLOCK, draw_delays
from icebus.fpga._engines.loops.event_simulation import FOREVER, EventSimulation, PulseTrain
from icebus.fpga._engines.loops.latches import loops_of, replace_latches
from icebus.fpga._engines.loops.pulse_counters import EdgeCounter, PioCounter
from icebus.fpga._netlist.netlist import CLOCK, FIRST, ONE, ZERO, Cell, Flop, Gate, Netlist

XOR = 0b0110
INVERT = 0b01
IDENTITY = 0b10
LEVELS = st.lists(st.integers(1, 700), max_size=60)


# --- the pin ----------------------------------------------------------------------------------


@given(LEVELS, st.integers(0, 1))
def test_given_any_wave_then_the_pin_is_counted_as_by_stepping_the_microcontroller(
    durations: list[int], level: int
) -> None:
    pin, wave = PioCounter(), []
    for duration in durations:
        wave += [level] * duration
        pin.hold(level, len(wave))
        level = 1 - level
    expected, instruction, awaited = [], "wait", 0
    for at in range(0, len(wave), PIO_CLOCK):
        if instruction == "count":
            instruction = "wait"
        elif wave[at] == awaited:
            if awaited:
                expected.append(at)
                instruction = "count"
            awaited = 1 - awaited
    assert pin.counted == expected


@given(LEVELS, st.integers(0, 1))
def test_given_any_wave_then_every_edge_is_counted_where_that_is_asked_for(
    durations: list[int], level: int
) -> None:
    edges, now, expected = EdgeCounter(), 0, []
    for i, duration in enumerate(durations):
        if level and i:
            expected.append(now)
        now += duration
        edges.hold(level, now)
        edges.hold(level, now)
        level = 1 - level
    assert edges.counted == expected


# --- trains -----------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 49), max_size=20, unique=True),
    st.lists(st.integers(0, 29), max_size=10, unique=True),
    st.lists(st.integers(0, 400), min_size=1, max_size=8),
)
def test_given_a_train_that_repeats_then_it_goes_on_as_if_it_had_been_simulated(
    first: list[int], repeated: list[int], ends: list[int]
) -> None:
    first, repeated = sorted(first), sorted(50 + at for at in repeated)
    unrolled = first + [at + 30 * again for again in range(15) for at in repeated]
    train = PulseTrain(first + repeated, 80, 30)
    for end in ends:
        assert train.between(0, end) == sum(at < end for at in unrolled)
        assert train.between(end // 3, end) == sum(end // 3 <= at < end for at in unrolled)


def test_given_a_train_of_which_no_more_is_known_then_it_goes_on_at_its_rate() -> None:
    assert PulseTrain([10, 20, 30, 40], 50, 0).between(0, 5000) == 400
    assert PulseTrain([10, 20], FOREVER, 0).between(0, 5000) == 2


def test_given_pulses_before_the_start_then_no_more_of_them_are_expected() -> None:
    assert PulseTrain([1, 2, 3], 50, 0).between(10, 5000) == 0
    assert PulseTrain([1, 2, 3, 20, 40], 50, 0).between(10, 4010) == 200
    assert PulseTrain([10, 20, 30, 40], 50, 0).between(100, 5100) == 400, "all that is known"


# --- cells ------------------------------------------------------------------------------------


def rises(cells: list[Cell], output: int, delays: list[int]) -> PulseTrain:
    return EventSimulation(Netlist(tuple(cells), output), delays, output).run(EdgeCounter())


@pytest.mark.parametrize(("width", "passes"), [(20, False), (29, False), (31, True), (90, True)])
def test_given_a_pulse_then_a_gate_passes_it_if_it_lasts_longer_than_its_delay(
    width: int, passes: bool
) -> None:
    # XOR of a signal and itself, `width` later; at half of the frequency of the clock
    cells: list[Cell] = [
        Flop(CLOCK, False, FIRST + 1),
        Gate(INVERT, (FIRST,)),
        Gate(IDENTITY, (FIRST,)),
        Gate(XOR, (FIRST, FIRST + 2)),
    ]
    train = rises(cells, FIRST + 3, [30, 30, width, 30])
    assert train.between(0, 1000 * CYCLE) == (1000 if passes else 0)


def test_given_inputs_that_change_together_then_a_gate_sees_both() -> None:
    cells: list[Cell] = [
        Flop(CLOCK, False, FIRST + 1),
        Gate(INVERT, (FIRST,)),
        Gate(XOR, (FIRST, FIRST)),  # one signal on two inputs
    ]
    assert rises(cells, FIRST + 2, [30, 30, 30]).between(0, 1000 * CYCLE) == 0


def test_given_an_asynchronous_reset_then_it_wins_over_clock_and_enable() -> None:
    # a flip-flop that takes 1 at every edge, and is reset while the one before it is 1
    cells: list[Cell] = [
        Flop(CLOCK, False, FIRST + 1),
        Gate(INVERT, (FIRST,)),
        Flop(CLOCK, False, ONE, reset=FIRST, asynchronous=True),
        Flop(CLOCK, False, ONE, enable=ZERO, reset=FIRST, asynchronous=True, value=True),
    ]
    assert rises(cells, FIRST + 2, [30, 30, 10, 10]).between(0, 1000 * CYCLE) == 500
    assert rises(cells, FIRST + 3, [30, 30, 10, 10]).between(0, 1000 * CYCLE) == 1


def test_given_a_synchronous_reset_then_the_enable_keeps_it_away() -> None:
    toggling: list[Cell] = [Flop(CLOCK, False, FIRST + 1), Gate(INVERT, (FIRST,))]
    for enable, expected in ((ONE, 500), (ZERO, 0)):
        flop = Flop(CLOCK, False, FIRST, enable=enable, reset=ZERO)
        assert (
            rises([*toggling, flop], FIRST + 2, [30, 30, 30]).between(0, 1001 * CYCLE) == expected
        )
        flop = Flop(CLOCK, False, ONE, enable=enable, reset=FIRST)
        assert (
            rises([*toggling, flop], FIRST + 2, [30, 30, 30]).between(0, 1000 * CYCLE) == expected
        )


def test_given_nothing_that_moves_then_it_is_at_rest() -> None:
    assert rises([Gate(IDENTITY, (FIRST,))], FIRST, [30]) == PulseTrain([], FOREVER, 0)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_given_a_board_then_its_delays_are_its_own(seed: int, other: int) -> None:
    netlist = Netlist(tuple(Gate(INVERT, (FIRST + i,)) for i in range(12)), FIRST)
    assert draw_delays(netlist, seed) == draw_delays(netlist, seed)
    assert (draw_delays(netlist, seed) == draw_delays(netlist, other)) == (seed == other)
    assert all(1.6 < delay * 1000 / 48 / CYCLE < 4.3 for delay in draw_delays(netlist, seed))


# --- whole circuits ---------------------------------------------------------------------------


def shallow(random: Random, loops: bool = False) -> Netlist:
    """Flip-flops on one edge with two levels of gates between them, which is in time.

    The first five are a ring of which one stage inverts, so that something moves. With ``loops``,
    gates of the first level may also see themselves, as latches or in any way.
    """
    flops = list(range(FIRST, FIRST + random.randint(7, 10)))
    first = list(range(flops[-1] + 1, flops[-1] + 1 + random.randint(2, 6)))
    second = list(range(first[-1] + 1, first[-1] + 1 + random.randint(2, 6)))
    inverted = second[-1] + 1
    cells: list[Cell] = [Flop(CLOCK, False, i) for i in (inverted, *flops[:4])]
    for _ in flops[5:]:
        reset = random.choice([*second, *flops]) if random.random() < 0.3 else ZERO
        enable = random.choice([*second, *flops]) if random.random() < 0.3 else ONE
        data = random.choice(second)
        cells.append(Flop(CLOCK, False, data, enable, reset, value=random.random() < 0.5))
    for level, sources in ((first, flops), (second, [*flops, *first])):
        for signal in level:
            inputs = tuple(random.choice(sources) for _ in range(random.randint(1, 4)))
            table = random.getrandbits(1 << len(inputs))
            if loops and level is first and random.random() < 0.5:
                inputs = (signal, *random.choices(sources, k=2))
                table = random.choice((0xCA, 0xAC, 0xE8, random.getrandbits(8)))
            cells.append(Gate(table, inputs))
    cells.append(Gate(INVERT, (flops[4],)))
    return Netlist(tuple(cells), random.choice(flops[5:]))


def test_given_a_circuit_that_is_in_time_then_delays_do_not_change_what_it_counts(
    plainly: Callable[[Netlist, int], list[int]],
) -> None:
    moved = 0
    for seed in range(60):
        netlist = shallow(Random(seed))
        train = EventSimulation(netlist, draw_delays(netlist, seed), netlist.output).run(
            PioCounter()
        )
        expected = plainly(netlist, 100)
        assert [train.between(0, cycles * CYCLE) for cycles in range(101)] == expected, seed
        moved += expected[-1] > 1
    assert moved > 30


def plainly_with_loops(netlist: Netlist, cycles: int) -> list[int]:
    """As the fixture ``plainly``, of gates that may see themselves and come to rest."""
    values = [0] * (FIRST + len(netlist.cells))
    values[ONE] = 1
    gates = [(FIRST + i, c) for i, c in enumerate(netlist.cells) if isinstance(c, Gate)]
    flops = [(FIRST + i, c) for i, c in enumerate(netlist.cells) if isinstance(c, Flop)]
    counts = [0]

    def settle() -> None:
        for _ in range(len(gates) + 1):
            for signal, gate in gates:
                row = sum(values[i] << pin for pin, i in enumerate(gate.inputs))
                values[signal] = gate.table >> row & 1

    settle()
    for _ in range(cycles):
        before = values[netlist.output]
        taken = []
        for signal, flop in flops:
            value = int(flop.value) if values[flop.reset] else values[flop.data]
            taken.append((signal, value if values[flop.enable] else values[signal]))
        for signal, value in taken:
            values[signal] = value
        settle()
        counts.append(counts[-1] + (values[netlist.output] > before))
    return counts


def test_given_loops_that_come_to_rest_then_they_are_memory(
    plainly: Callable[[Netlist, int], list[int]],
) -> None:
    compared = 0
    for seed in range(150):
        netlist = shallow(Random(seed), loops=True)
        without_loops = replace_latches(netlist)
        if without_loops is not None and loops_of(netlist):
            expected = plainly_with_loops(netlist, 60)
            assert plainly(without_loops, 60) == expected, seed
            compared += expected[-1] > 1
    assert compared > 20


@pytest.mark.parametrize(
    ("table", "inputs", "settles"),
    [
        (0xCA, (FIRST + 2, FIRST, FIRST), True),  # a latch
        (0b1110, (FIRST, FIRST + 2), True),  # set once, for ever
        (0b0110, (FIRST, FIRST + 2), False),  # turns round while its input is 1
        (0b01, (FIRST + 2,), False),
    ],
)
def test_given_a_gate_that_sees_itself_then_it_settles_unless_it_may_turn_round(
    table: int, inputs: tuple[int, ...], settles: bool
) -> None:
    cells = (Flop(CLOCK, False, FIRST + 1), Gate(INVERT, (FIRST,)), Gate(table, inputs))
    assert (replace_latches(Netlist(cells, FIRST + 2)) is not None) == settles
