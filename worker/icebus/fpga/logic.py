"""Truth tables as Python expressions that work on many bits at once.

The functions made here take four operands and a mask of ones, either integers (bit ``t`` is the
value at step ``t``) or arrays of 64-bit words, and give the function of them, bit by bit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMES: Final = "abcd"

Function = "Callable[[Any, Any, Any, Any, Any], Any]"


@lru_cache(maxsize=1 << 14)
def compiled(table: int, width: int) -> Callable[[Any, Any, Any, Any, Any], Any]:
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
    step = 1 << pin
    result = 0
    for i in range(1 << (width - 1)):
        row = (i & (step - 1)) | (i & -step) << 1 | value << pin
        result |= (table >> row & 1) << i
    return result
