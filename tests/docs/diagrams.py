"""The state diagrams of docs/architecture.md, drawn from the tables that the code obeys.

``python tests/docs/diagrams.py docs/architecture.md`` renews them in place. It stands among the
tests because it looks into two components that must not know each other.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from icebus.control.decide.lifecycle import HOLD, RESERVATION
from icebus.schemas.reservations import HoldState, ReservationState
from icebus.worker.device.lifecycle import INITIAL, TRANSITIONS

S = TypeVar("S", bound=StrEnum)

_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def renew(text: str) -> str:
    """The document with its diagrams as they should be."""
    first = [ReservationState.QUEUED, ReservationState.PREPARING]
    parts = {
        "device": draw(INITIAL, TRANSITIONS),
        "reservation": draw(first, RESERVATION),
        "hold": draw([HoldState.PREPARING], HOLD),
    }
    return _PART.sub(lambda found: f"{found[1]}\n{parts[found[2]]}\n{found[3]}", text)


def draw(initial: Collection[S], table: Mapping[S, Collection[S]]) -> str:
    """A table of transitions as a Mermaid diagram."""
    order = list(table)
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"  [*] --> {state}" for state in order if state in initial]
    for before, afters in table.items():
        lines += [f"  {before} --> {after}" for after in order if after in afters]
        if not afters:
            lines.append(f"  {before} --> [*]")
    return "\n".join([*lines, "```", ""])


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(renew(path.read_text()))
