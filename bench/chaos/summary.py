"""What happened in a run of chaos, and which promises were broken."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field

from bench.chaos.client_record import ClientSummary
from bench.chaos.faults import Fault
from bench.chaos.health import Resources


@dataclass
class Summary:
    """What happened in a run of chaos.

    Attributes:
        seed: decides the schedule of faults.
        faults: those that were injected.
        clients: what their records say, by name.
        ended: parts that ended by themselves, by name: the last line of their logs.
        errors: errors and tracebacks in the logs, counted by part and text.
        resources: what parts used at the beginning and at the end.
        ready: seconds from the last repair until all the farm was idle and ready; None if never.
        broken: the promises that were broken.
    """

    seed: int
    faults: list[Fault] = field(default_factory=list)
    clients: dict[str, ClientSummary] = field(default_factory=dict)
    ended: dict[str, list[str]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    resources: dict[str, tuple[Resources, Resources]] = field(default_factory=dict)
    ready: float | None = None
    broken: list[str] = field(default_factory=list)

    def add_broken(self, text: str) -> None:
        """Note a broken promise, and print it."""
        print_progress(f"BROKEN: {text}")
        self.broken.append(text)


def print_progress(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"chaos: {text}\n")
    sys.stderr.flush()
