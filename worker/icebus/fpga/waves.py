"""Waves: the values of a node over many steps, as one integer; bit ``t`` is step ``t``."""

from __future__ import annotations


def first_difference(wave: int) -> int:
    """The first step at which a wave is 1; the wave must not be 0."""
    return (wave & -wave).bit_length() - 1


def delayed(following: int, first: int, ones: int) -> int:
    """The wave of a state bit from that of its next value and its value at step 0."""
    return (following << 1 | first) & ones


def repeated(wave: int, period: int, steps: int) -> int:
    """``steps`` steps of a wave that has ``period`` of them and starts again and again."""
    while period < steps:
        wave |= wave << period
        period *= 2
    return wave & ((1 << steps) - 1)


def repeats(wave: int, start: int, period: int, steps: int) -> bool:
    """Whether the wave, from ``start`` to its end at ``steps``, has that period."""
    tail = wave >> start
    return not (tail ^ tail >> period) & ((1 << max(steps - start - period, 0)) - 1)


def scan(if_zero: int, if_one: int, first: int, steps: int, ones: int) -> int:
    """The wave of a state bit's next value, from what that is if the bit is 0 and if it is 1.

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
