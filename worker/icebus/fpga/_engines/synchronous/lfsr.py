"""Linear feedback shift registers: state bits that are sums (modulo 2) of each other.

Whatever such bits do, each of them follows a linear recurrence of an order no higher than their
number plus one (for constants). The recurrence is found from the first values (Berlekamp-Massey).
Since squaring is linear modulo 2, it also holds with all its lags doubled, again and again, so that
the further one gets, the more steps follow from one operation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from icebus.fpga._netlist.truth_tables import is_affine
from icebus.fpga._state_machine.state_machine import STATE

if TYPE_CHECKING:
    from icebus.fpga._engines.synchronous.schedule import CoupledGroup
    from icebus.fpga._state_machine.state_machine import StateMachine

MOST_STATES: Final = 128

_START: Final = 64
"""Bytes of a sequence, for every lag of its recurrence, that are worked out bit by bit."""


def is_linear(machine: StateMachine, group: CoupledGroup) -> bool:
    """Whether the state bits of a group without inputs are sums of each other."""
    first = STATE + machine.states
    return len(group.states) <= MOST_STATES and all(
        is_affine(machine.gates[gate[0] - first][0], len(machine.gates[gate[0] - first][1]))
        for gate in group.gates
    )


def recurrence(bits: list[int]) -> tuple[list[int], int]:
    """The shortest linear recurrence of a sequence (Berlekamp-Massey).

    Returns:
        The lags of the values that are summed, and the order: from that step on the recurrence
        holds. It exceeds the greatest lag if the sequence starts with what never comes back.
    """
    current, previous = 1, 1
    length, gap, window = 0, 1, 0
    for i, bit in enumerate(bits):
        window = window << 1 | bit  # bit j is the value j steps ago
        if (current & window & ((2 << length) - 1)).bit_count() & 1:
            old = current
            current ^= previous << gap
            if 2 * length <= i:
                length, previous, gap = i + 1 - length, old, 0
        gap += 1
    return [lag for lag in range(1, length + 1) if current >> lag & 1], length


class LinearSequence:
    """The values of one node, continued as far as needed."""

    def __init__(self, bits: list[int]) -> None:
        self._lags, order = recurrence(bits)
        self._order = max(order, 1)
        known = list(bits)
        while len(known) < 8 * max(_START, 2 * self._order) or len(known) % 8:
            known.append(sum(known[-lag] for lag in self._lags) & 1)
        self._bytes = np.packbits(np.array(known, np.uint8), bitorder="little")

    @property
    def size(self) -> int:
        """Bytes of what is known."""
        return len(self._bytes)

    def waveform(self, start: int, steps: int) -> int:
        """The waveform of ``steps`` steps from ``start``."""
        last = (start + steps + 7) // 8
        if last > len(self._bytes):
            self._extend(max(last, 2 * len(self._bytes)))
        waveform = int.from_bytes(self._bytes[start // 8 : last].tobytes(), "little")
        return waveform >> start % 8 & ((1 << steps) - 1)

    def _extend(self, size: int) -> None:
        known = len(self._bytes)
        data = np.zeros(size, np.uint8)
        data[:known] = self._bytes
        if self._lags:
            while known < size:
                scale = 1
                while 2 * scale * self._order <= known:
                    scale *= 2
                run = min(scale * self._lags[0], size - known)
                part = data[known : known + run]
                for lag in self._lags:
                    at = known - scale * lag
                    part ^= data[at : at + run]
                known += run
        self._bytes = data


class Lfsr:
    """The nodes of a linear group that others depend on, from some step on.

    Attributes:
        position: the next step.
    """

    def __init__(self, sequences: dict[int, LinearSequence]) -> None:
        self._sequences = sequences
        self.position = 0

    @property
    def size(self) -> int:
        """Bytes of the sequences."""
        return sum(sequence.size for sequence in self._sequences.values())

    def waveforms(self, steps: int) -> dict[int, int]:
        """The waveforms of the next ``steps`` steps."""
        start = self.position
        self.position += steps
        return {node: of.waveform(start, steps) for node, of in self._sequences.items()}
