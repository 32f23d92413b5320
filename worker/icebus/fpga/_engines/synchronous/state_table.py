"""Coupled state bits that change too often to guess: step by step, or by a table of all states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from icebus.fpga._engines.synchronous.integer_waveforms import bits_of, waveform_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icebus.fpga._engines.synchronous.schedule import CoupledGroup

TABLE_BITS: Final = 16
"""State bits up to which a table of all states is made: 65,536 of them take some milliseconds."""

States = npt.NDArray[np.int64]


def transition_table(group: CoupledGroup, nodes: int) -> States:
    """The next state of every state of a group that has no inputs.

    Args:
        group: at most :data:`TABLE_BITS` state bits; bit ``i`` of a state is its ``i``-th.
        nodes: number of nodes of the state machine.
    """
    size = len(group.states)
    count = 1 << size
    ones = (1 << count) - 1
    waveforms = [0] * nodes
    waveforms[1] = ones
    for i, (node, _) in enumerate(group.states):
        half = 1 << i  # bit i of a number changes every 2**i numbers
        waveforms[node] = ones // ((1 << half) + 1) << half
    for node, function, a, b, c, d in group.gates:
        waveforms[node] = function(waveforms[a], waveforms[b], waveforms[c], waveforms[d], ones)
    following = np.zeros(count, np.int64)
    for i, (_, node) in enumerate(group.states):
        following |= bits_of(waveforms[node], count).astype(np.int64) << i
    return following


def states_until_repeat(following: States, first: int) -> tuple[States, int]:
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


def waveforms_of(path: States, bits: int) -> list[int]:
    """The waveform of each state bit along a path."""
    return [waveform_of((path >> i & 1).astype(np.uint8)) for i in range(bits)]


def step_by_step(
    group: CoupledGroup,
    waveforms: list[int],
    inputs: Sequence[int],
    state: Sequence[int],
    steps: int,
) -> list[int]:
    """The waveforms of the state bits over ``steps`` steps plus one, one step at a time."""
    columns = [bits_of(waveform, steps).tolist() for waveform in inputs]
    for (node, _), value in zip(group.states, state, strict=True):
        waveforms[node] = value
    waveforms[1] = 1
    rows = [tuple(state)]
    states = [node for node, _ in group.states]
    following = [node for _, node in group.states]
    gates = group.gates
    for step in range(steps):
        for node, column in zip(group.inputs, columns, strict=True):
            waveforms[node] = column[step]
        for node, function, a, b, c, d in gates:
            waveforms[node] = function(waveforms[a], waveforms[b], waveforms[c], waveforms[d], 1)
        row = tuple([waveforms[node] for node in following])
        rows.append(row)
        for node, value in zip(states, row, strict=True):
            waveforms[node] = value
    return [waveform_of(column) for column in np.array(rows, np.uint8).T]
