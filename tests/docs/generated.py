"""The generated parts of docs/architecture.md: life cycles from the tables that the code obeys, the
map of rooms from the tree, the errors from their classes; the keys of a worker's configuration in
docs/worker.md; and all commands in docs/cli.md.

``python -m tests.docs.generated docs/architecture.md`` renews them in place, in each document. It
stands among the tests because it looks into components that must not know each other.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from tests.docs.command_reference import reference
from tests.docs.configuration import key_table
from tests.docs.error_tree import error_tree
from tests.docs.rooms import room_map

from icebus.control.decide.lifecycle import HOLD, RESERVATION
from icebus.schemas.devices import DeviceState
from icebus.schemas.operations.reservations import HoldState, ReservationState
from icebus.worker.device.lifecycle import INITIAL, TRANSITIONS

S = TypeVar("S", bound=StrEnum)

PLUGGED = [state for state in DeviceState if state is not DeviceState.ABSENT]
AT_WORK = [state for state in PLUGGED if state not in (DeviceState.BROKEN, DeviceState.QUARANTINED)]
DEVICE_GROUPS: Mapping[str, Sequence[DeviceState]] = {
    "any other state": PLUGGED,
    "any state from flashing to releasing": AT_WORK,
}

_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def renew(text: str) -> str:
    """The document with its generated parts as they should be."""
    first = [ReservationState.QUEUED, ReservationState.PREPARING]
    parts = {
        "device": draw(INITIAL, TRANSITIONS, DEVICE_GROUPS),
        "reservation": draw(first, RESERVATION),
        "hold": draw([HoldState.PREPARING], HOLD),
        "rooms": room_map(),
        "errors": error_tree(),
        "configuration": key_table(),
        "commands": reference(),
    }
    return _PART.sub(lambda found: f"{found[1]}\n{parts[found[2]]}\n{found[3]}", text)


def draw(
    initial: Collection[S],
    table: Mapping[S, Collection[S]],
    groups: Mapping[str, Sequence[S]] | None = None,
) -> str:
    """A table of transitions as a Mermaid diagram, with a box for each group that shares arrows."""
    order = list(table)
    lines = ["```mermaid", "stateDiagram-v2"]
    left = {before: [after for after in order if after in table[before]] for before in order}
    for number, (name, members) in enumerate((groups or {}).items()):
        outside = [state for state in order if state not in members]
        shared = [after for after in outside if all(after in left[each] for each in members)]
        lines.append(f'  state "{name}" as group{number}')
        lines += [f"  group{number} --> {after}" for after in shared]
        for each in members:
            left[each] = [after for after in left[each] if after not in shared]
    lines += [f"  [*] --> {state}" for state in order if state in initial]
    for before, afters in left.items():
        lines += [f"  {before} --> {after}" for after in afters]
        if not table[before]:
            lines.append(f"  {before} --> [*]")
    return "\n".join([*lines, "```", ""])


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(renew(path.read_text()))
