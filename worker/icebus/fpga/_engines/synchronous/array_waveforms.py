"""Waveforms as arrays of 64-bit words, for blocks so long that integers get slow.

Step ``t`` is bit ``t % 64`` of word ``t // 64``. An array may be shorter than the block (by a power
of two): then it is repeated, which makes the low bits of counters cheap. Blocks have a power of two
of steps.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

ArrayWaveform = npt.NDArray[np.uint64]

ONES: Final = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
ALL_ZERO: Final = np.zeros(1, np.uint64)
ALL_ONE: Final = np.full(1, ONES)
EVEN: Final = np.full(1, 0x5555_5555_5555_5555, np.uint64)
"""1 at every second step, from the first."""
_SHIFTS: Final = tuple(np.uint64(1 << i) for i in range(6))
_TOP: Final = np.uint64(63)
_ONE: Final = np.uint64(1)


def constant(value: int) -> ArrayWaveform:
    """A waveform that does not change."""
    return ALL_ONE if value else ALL_ZERO


def repeated_to(waveform: ArrayWaveform, words: int) -> ArrayWaveform:
    """The waveform written out to a number of words."""
    if len(waveform) == words:
        return waveform
    result = np.empty((words // len(waveform), len(waveform)), np.uint64)
    result[:] = waveform
    return result.reshape(words)


def compressed(waveform: ArrayWaveform) -> ArrayWaveform:
    """The waveform itself, or :data:`ALL_ZERO` if it is 0 throughout."""
    return ALL_ZERO if is_zero(waveform) else waveform


def broadcast(
    a: ArrayWaveform, b: ArrayWaveform, c: ArrayWaveform = ALL_ZERO, d: ArrayWaveform = ALL_ZERO
) -> tuple[ArrayWaveform, ArrayWaveform, ArrayWaveform, ArrayWaveform]:
    """The waveforms in lengths that can be combined: one, or that of the longest."""
    words = max(len(a), len(b), len(c), len(d))
    if words > 1:
        if 1 != len(a) != words:
            a = repeated_to(a, words)
        if 1 != len(b) != words:
            b = repeated_to(b, words)
        if 1 != len(c) != words:
            c = repeated_to(c, words)
        if 1 != len(d) != words:
            d = repeated_to(d, words)
    return a, b, c, d


def from_integer(waveform: int, words: int) -> ArrayWaveform:
    """The waveform of an integer."""
    return np.frombuffer(waveform.to_bytes(words * 8, "little"), np.uint64)


def to_integer(waveform: ArrayWaveform, words: int) -> int:
    """The waveform as an integer."""
    return int.from_bytes(repeated_to(waveform, words).tobytes(), "little")


def at(waveform: ArrayWaveform, step: int) -> int:
    """The value at a step."""
    return int(waveform[(step >> 6) % len(waveform)]) >> (step & 63) & 1


def first_word(waveform: ArrayWaveform, otherwise: int) -> int:
    """The first word of a waveform that is not 0, ``otherwise`` at most."""
    found = int(np.argmax(waveform.view(np.bool_))) >> 3
    return min(found, otherwise) if waveform[found] else otherwise


def is_zero(waveform: ArrayWaveform) -> bool:
    """Whether the waveform is 0 throughout."""
    return (
        not waveform[0]
        and not waveform[-1]
        and (len(waveform) < 3 or not np.any(waveform.view(np.bool_)))
    )


def parity(toggles: ArrayWaveform, words: int) -> ArrayWaveform:
    """For each step, whether the number of steps up to and including it with a 1 is odd."""
    result = toggles.copy()
    shifted = np.empty_like(result)
    for shift in _SHIFTS:
        np.left_shift(result, shift, out=shifted)
        np.bitwise_xor(result, shifted, out=result)
    odd = np.bitwise_xor.accumulate(result >> _TOP)
    result[1:] ^= -odd[:-1]
    if odd[-1] and len(result) < words:
        return np.concatenate((result, result ^ ONES))
    return result


def delayed(following: ArrayWaveform, first: int, words: int) -> ArrayWaveform:
    """The waveform of a state bit from that of its next value and its value at step 0."""
    last = int(following[-1] >> _TOP)
    if last != first and len(following) < words:
        following = repeated_to(following, words)
    result: ArrayWaveform = following << _ONE
    result[1:] |= following[:-1] >> _TOP
    if first:
        result[0] |= _ONE
    return result


def scan(if_zero: ArrayWaveform, if_one: ArrayWaveform, first: int, words: int) -> ArrayWaveform:
    """As :func:`icebus.fpga._engines.synchronous.integer_waveforms.scan`."""
    if_zero, if_one, _, _ = broadcast(if_zero, if_one)
    differ = compressed(if_zero ^ if_one)
    toggles = compressed(differ & if_zero)
    odd = parity(toggles, words) if toggles is not ALL_ZERO else ALL_ZERO
    known = compressed(differ ^ ONES)
    if known is ALL_ZERO:
        return odd ^ ONES if first else odd
    known, odd, if_zero = (repeated_to(waveform, words) for waveform in (known, odd, if_zero))
    return _filled((if_zero ^ odd) & known, known, first) ^ odd


def _filled(value: ArrayWaveform, known: ArrayWaveform, first: int) -> ArrayWaveform:
    """Each step's value where it is known, and the last known one (or ``first``) where not."""
    value, known = value.copy(), known.copy()
    here = known != 0
    for shift in _SHIFTS:
        value |= (value << shift) & ~known
        known |= known << shift
    latest = np.maximum.accumulate(np.where(here, np.arange(len(value)), -1))
    before = np.concatenate(([-1], latest[:-1]))
    carried = np.where(before < 0, np.uint64(first), value[before] >> _TOP)
    return value | (~known & -carried)
