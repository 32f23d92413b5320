"""Waveforms: the values of a node over many steps, as one integer; bit ``t`` is step ``t``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def first_one(waveform: int) -> int:
    """The first step at which a waveform is 1; the waveform must not be 0."""
    return (waveform & -waveform).bit_length() - 1


def delayed(following: int, first: int, ones: int) -> int:
    """The waveform of a state bit from that of its next value and its value at step 0."""
    return (following << 1 | first) & ones


def repeated(waveform: int, period: int, steps: int) -> int:
    """``steps`` steps of a waveform that has ``period`` of them and starts again and again."""
    while period < steps:
        waveform |= waveform << period
        period *= 2
    return waveform & ((1 << steps) - 1)


def repeats(waveform: int, start: int, period: int, steps: int) -> bool:
    """Whether the waveform, from ``start`` to its end at ``steps``, has that period."""
    tail = waveform >> start
    return not (tail ^ tail >> period) & ((1 << max(steps - start - period, 0)) - 1)


def scan(if_zero: int, if_one: int, first: int, steps: int, ones: int) -> int:
    """The waveform of a state bit's next value, from what that is if the bit is 0 and if it is 1.

    At each step the bit is set, cleared, kept or inverted. Runs of inversions are a running parity,
    and what is set or cleared lasts until the next time, so the number of operations grows with the
    logarithm of the number of steps only.
    """
    differ = if_zero ^ if_one
    parity = differ & if_zero
    if parity:
        shift = 1
        while shift < steps:
            parity ^= parity << shift
            shift <<= 1
        parity &= ones
    if differ == ones:
        return parity ^ ones if first else parity
    known = differ ^ ones
    value = (if_zero ^ parity) & known
    shift = 1
    while shift < steps and known != ones:
        value |= (value << shift) & (known ^ ones)
        known |= (known << shift) & ones
        shift <<= 1
    if first:
        value |= known ^ ones
    return value ^ parity


def bits_of(waveform: int, steps: int) -> npt.NDArray[np.uint8]:
    """The steps of a waveform, one byte each."""
    data = np.frombuffer(waveform.to_bytes((steps + 7) // 8, "little"), np.uint8)
    return np.unpackbits(data, count=steps, bitorder="little")


def positions(waveform: int, steps: int) -> npt.NDArray[np.uint32]:
    """The steps at which a waveform is 1; quick if they are few."""
    data = np.frombuffer(waveform.to_bytes((steps + 7) // 8, "little"), np.uint8)
    some = np.flatnonzero(data.view(np.bool_))
    ones = np.flatnonzero(np.unpackbits(data[some], bitorder="little").view(np.bool_))
    steps_at: npt.NDArray[np.intp] = some[ones >> 3] * 8 + (ones & 7)
    return steps_at.astype(np.uint32)


def waveform_of(bits: npt.NDArray[np.uint8]) -> int:
    """The waveform of steps that are one byte each."""
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")
