"""Merging the gates of a step: fewer, bigger ones are cheaper to evaluate."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Final

from icebus.fpga.steps import STATE, Step

_MOST_INPUTS: Final = 4


@lru_cache(maxsize=1 << 14)
def composed(
    table: int, places: tuple[int, ...], inner: int, inner_places: tuple[int, ...], width: int
) -> int:
    """The truth table of a gate with another one (place -1) as one of its inputs.

    Args:
        table: of the outer gate.
        places: which of the common inputs each of its inputs is.
        inner: truth table of the gate that is taken in.
        inner_places: which of the common inputs each input of that is.
        width: number of common inputs.
    """
    result = 0
    for row in range(1 << width):
        of_inner = sum((row >> place & 1) << pin for pin, place in enumerate(inner_places))
        value = inner >> of_inner & 1
        outer = sum(
            (value if place < 0 else row >> place & 1) << pin for pin, place in enumerate(places)
        )
        result |= (table >> outer & 1) << row
    return result


def pack(step: Step) -> Step:
    """The same step, with gates that only one other one needs taken into that one."""
    first = STATE + step.states
    gates = list(step.gates)
    users = [0] * (first + len(gates))
    for _, inputs in gates:
        for node in inputs:
            users[node] += 1
    for node in (*step.following, step.output):
        users[node] += 2  # so that it is kept
    for i, (table, inputs) in enumerate(gates):
        pin = 0
        while pin < len(inputs):
            node = inputs[pin]
            pin += 1
            if node < first or users[node] > 1:
                continue
            inner_table, inner = gates[node - first]
            union = tuple(dict.fromkeys((*(other for other in inputs if other != node), *inner)))
            if len(union) > _MOST_INPUTS:
                continue
            places = tuple([union.index(other) if other != node else -1 for other in inputs])
            inner_places = tuple([union.index(other) for other in inner])
            for shared in inner:
                users[shared] -= shared in inputs
            users[node] = 0
            table = composed(table, places, inner_table, inner_places, len(union))
            inputs, pin = union, 0
        gates[i] = (table, inputs)
    number = {node: node for node in range(first)}
    kept: list[tuple[int, tuple[int, ...]]] = []
    for i, (table, inputs) in enumerate(gates):
        if users[first + i]:
            number[first + i] = first + len(kept)
            kept.append((table, tuple([number[node] for node in inputs])))
    return replace(
        step,
        gates=tuple(kept),
        following=tuple([number[node] for node in step.following]),
        output=number[step.output],
    )
