"""Counts outcomes by what they are of."""

from __future__ import annotations

from collections import Counter
from typing import Any


def by_board_and_bitstream(outcomes: list[Any]) -> Counter[tuple[str, str]]:
    return Counter((outcome.serial, outcome.bitstream) for outcome in outcomes)
