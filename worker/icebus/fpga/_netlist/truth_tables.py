"""Truth tables: bit ``i`` is the output when input ``k`` equals bit ``k`` of ``i``.

They are made smaller and put into each other here, and compiled into Python functions that work on
many bits at once: these take four operands and a mask of ones, either integers (bit ``t`` is the
value at step ``t``) or arrays of 64-bit words.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from icebus.fpga._netlist.netlist import ONE

if TYPE_CHECKING:
    from collections.abc import Callable

IDENTITY: Final = 0b10
INVERT: Final = 0b01
AND: Final = 0b1000
OR: Final = 0b1110
XOR: Final = 0b0110
XNOR: Final = 0b1001
MAJORITY: Final = 0xE8
MUX: Final = 0xCA
"""``c ? b : a``"""

_NAMES: Final = "abcd"

_VARIABLES: Final = (0x5555, 0x3333, 0x0F0F, 0x00FF)
"""Rows of a table of four inputs in which each of them is 0."""

_DISTINCT: Final = tuple(tuple(range(ONE + 1, ONE + 1 + width)) for width in range(5))
"""The shapes of inputs that are neither constant nor equal."""


@lru_cache(maxsize=1 << 14)
def compile_table(table: int, width: int) -> Callable[[Any, Any, Any, Any, Any], Any]:
    """The function of a truth table of ``width`` inputs as ``f(a, b, c, d, ones)``.

    Compiling costs some tens of microseconds, so what was compiled is kept: circuits share most of
    their truth tables.
    """
    source = _expression(table, tuple(range(width)))[1]
    # A string of the operators & | ^, of a, b, c, d, m and 0; made from two integers.
    function: Callable[[Any, Any, Any, Any, Any], Any] = eval(  # noqa: S307
        f"lambda a, b, c, d, m: {source}", {"__builtins__": {}}
    )
    return function


@lru_cache(maxsize=1 << 14)
def _expression(table: int, pins: tuple[int, ...]) -> tuple[int, str]:
    """Number of operations and source, by the best of the expansions around each input."""
    rows = 1 << len(pins)
    ones = (1 << rows) - 1
    if table == 0:
        return 0, "(a & 0)" if not pins else "0"
    if table == ones:
        return 0, "m"
    return min(_around(table, pins, pin) for pin in range(len(pins)))


def _around(table: int, pins: tuple[int, ...], pin: int) -> tuple[int, str]:
    """The function by what it is with one input 0 (``low``) and 1 (``high``)."""
    left = pins[:pin] + pins[pin + 1 :]
    ones = (1 << (1 << len(left))) - 1
    low, high = restrict(table, len(pins), pin, 0), restrict(table, len(pins), pin, 1)
    x = _NAMES[pins[pin]]
    if low == high:
        return _expression(low, left)
    if low == 0 or high == ones:
        inner, operator = (high, "&") if low == 0 else (low, "|")
        if inner in (0, ones):
            return 0, x
        cost, source = _expression(inner, left)
        return cost + 1, f"({x} {operator} {source})"
    if high == 0 or low == ones:
        inner, operator = (low, "&") if high == 0 else (high, "|")
        if inner in (0, ones):
            return 1, f"({x} ^ m)"
        cost, source = _expression(inner, left)
        return cost + 2, f"(({x} ^ m) {operator} {source})"
    if high == low ^ ones:
        cost, source = _expression(low, left)
        return cost + 1, f"({x} ^ {source})"
    cost_low, source_low = _expression(low, left)
    cost_other, source_other = _expression(low ^ high, left)
    return cost_low + cost_other + 2, f"({source_low} ^ ({x} & {source_other}))"


@lru_cache(maxsize=1 << 16)
def restrict(table: int, width: int, pin: int, value: int) -> int:
    """The table with input ``pin`` fixed and taken out."""
    bit = 1 << pin
    result = 0
    for i in range(1 << (width - 1)):
        row = (i & (bit - 1)) | (i & -bit) << 1 | value << pin
        result |= (table >> row & 1) << i
    return result


def fold(table: int, inputs: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """The same function with constants, repeated and ignored inputs taken out."""
    if min(inputs, default=0) > ONE and len(set(inputs)) == len(inputs):
        shape = _DISTINCT[len(inputs)]
    else:
        shape = tuple([i if i <= ONE else ONE + 1 + inputs.index(i) for i in inputs])
    table, kept = _fold(table, shape)
    if len(kept) == len(inputs):
        return table, inputs
    return table, tuple([inputs[pin] for pin in kept])


@lru_cache(maxsize=1 << 16)
def _fold(table: int, inputs: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """:func:`fold` with inputs that only say which are constant or equal; gives kept pins."""
    kept = tuple(range(len(inputs)))
    pin = 0
    while pin < len(inputs):
        signal = inputs[pin]
        if signal <= ONE:
            table = restrict(table, len(inputs), pin, signal)
        elif signal in inputs[:pin]:
            table = _merge(table, len(inputs), inputs.index(signal), pin)
        else:
            low = restrict(table, len(inputs), pin, 0)
            if low != restrict(table, len(inputs), pin, 1):
                pin += 1
                continue
            table = low
        inputs = inputs[:pin] + inputs[pin + 1 :]
        kept = kept[:pin] + kept[pin + 1 :]
        pin = 0
    return table, kept


def _merge(table: int, width: int, kept: int, dropped: int) -> int:
    """The table with input ``dropped`` taken out because it always equals input ``kept``."""
    bit = 1 << dropped
    result = 0
    for i in range(1 << (width - 1)):
        row = (i & (bit - 1)) | (i & -bit) << 1 | (i >> kept & 1) << dropped
        result |= (table >> row & 1) << i
    return result


@lru_cache(maxsize=1 << 14)
def compose(
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


@lru_cache(maxsize=1 << 16)
def used_inputs(table: int) -> int:
    """The inputs (bit by bit) that a truth table of four depends on."""
    return sum(
        1 << pin for pin, rows in enumerate(_VARIABLES) if (table >> (1 << pin) ^ table) & rows
    )


@lru_cache(maxsize=1 << 12)
def is_affine(table: int, width: int) -> bool:
    """Whether a truth table is a sum modulo 2 of some inputs and a constant."""
    zero = table & 1
    effect = [table >> (1 << pin) & 1 ^ zero for pin in range(width)]
    return all(
        table >> row & 1 == (sum(e for pin, e in enumerate(effect) if row >> pin & 1) + zero) % 2
        for row in range(1 << width)
    )
