"""State bits that change too often to guess: step by step, or by a table of all their states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icebus.fpga.plan import Knot

TABLE_BITS: Final = 16
"""State bits up to which a table of all states is made: 65,536 of them take some milliseconds."""

States = npt.NDArray[np.int64]


def table(knot: Knot, nodes: int) -> States:
    """The next state of every state of a knot that has no inputs.

    Args:
        knot: at most :data:`TABLE_BITS` state bits; bit ``i`` of a state is its ``i``-th.
        nodes: number of nodes of the step.
    """
    size = len(knot.states)
    count = 1 << size
    ones = (1 << count) - 1
    waves = [0] * nodes
    waves[1] = ones
    for i, (node, _) in enumerate(knot.states):
        half = 1 << i  # bit i of a number changes every 2**i numbers
        waves[node] = ones // ((1 << half) + 1) << half
    for node, function, a, b, c, d in knot.scalar:
        waves[node] = function(waves[a], waves[b], waves[c], waves[d], ones)
    following = np.zeros(count, np.int64)
    for i, (_, node) in enumerate(knot.states):
        following |= bits_of(waves[node], count).astype(np.int64) << i
    return following


def orbit(following: States, first: int) -> tuple[States, int]:
    """The states from ``first`` until one comes back, and the number of the one that does."""
    path = np.empty(2 * len(following), np.int64)
    path[0] = first
    known = 1
    jump = following  # the state `known` steps later
    while known <= len(following):
        path[known : 2 * known] = jump[path[:known]]
        known *= 2
        jump = jump[jump]
    path = path[:known]
    when = np.empty(len(following), np.int64)
    when[path[::-1]] = np.arange(known - 1, -1, -1)
    back = int(np.argmax(when[path] != np.arange(known)))
    return path[:back], int(when[path[back]])


def waves_of(path: States, bits: int) -> list[int]:
    """The wave of each state bit along a path."""
    return [wave_of((path >> i & 1).astype(np.uint8)) for i in range(bits)]


def bits_of(wave: int, steps: int) -> npt.NDArray[np.uint8]:
    """The steps of a wave, one byte each."""
    data = np.frombuffer(wave.to_bytes((steps + 7) // 8, "little"), np.uint8)
    return np.unpackbits(data, count=steps, bitorder="little")


def positions(wave: int, steps: int) -> npt.NDArray[np.uint32]:
    """The steps at which a wave is 1; quick if they are few."""
    data = np.frombuffer(wave.to_bytes((steps + 7) // 8, "little"), np.uint8)
    some = np.flatnonzero(data.view(np.bool_))
    ones = np.flatnonzero(np.unpackbits(data[some], bitorder="little").view(np.bool_))
    steps_at: npt.NDArray[np.intp] = some[ones >> 3] * 8 + (ones & 7)
    return steps_at.astype(np.uint32)


def wave_of(bits: npt.NDArray[np.uint8]) -> int:
    """The wave of steps that are one byte each."""
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")


def walk(
    knot: Knot, waves: list[int], inputs: Sequence[int], state: Sequence[int], steps: int
) -> list[int]:
    """The waves of the state bits over ``steps`` steps plus one, one step at a time."""
    columns = [bits_of(wave, steps).tolist() for wave in inputs]
    for (node, _), value in zip(knot.states, state, strict=True):
        waves[node] = value
    waves[1] = 1
    rows = [tuple(state)]
    states = [node for node, _ in knot.states]
    following = [node for _, node in knot.states]
    gates = knot.scalar
    for step in range(steps):
        for node, column in zip(knot.inputs, columns, strict=True):
            waves[node] = column[step]
        for node, function, a, b, c, d in gates:
            waves[node] = function(waves[a], waves[b], waves[c], waves[d], 1)
        row = tuple([waves[node] for node in following])
        rows.append(row)
        for node, value in zip(states, row, strict=True):
            waves[node] = value
    return [wave_of(column) for column in np.array(rows, np.uint8).T]
