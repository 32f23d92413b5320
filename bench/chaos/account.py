"""What a run of chaos has come to."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field

from bench.chaos.faults import Fault
from bench.chaos.health import Resources
from bench.chaos.outcomes import Account


@dataclass
class Chaos:
    """What a run has come to.

    Attributes:
        seed: that decides its schedule.
        faults: what was done.
        accounts: the clients' ledgers, by name.
        ends: parts that ended by themselves, by name: what they said last.
        errors: errors and tracebacks in the logs, by part and first words.
        use: what parts used at the beginning and in the end.
        ready: seconds from the last repair to the whole farm idle and ready; None if never.
        broken: the promises that were broken.
    """

    seed: int
    faults: list[Fault] = field(default_factory=list)
    accounts: dict[str, Account] = field(default_factory=dict)
    ends: dict[str, list[str]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    use: dict[str, tuple[Resources, Resources]] = field(default_factory=dict)
    ready: float | None = None
    broken: list[str] = field(default_factory=list)

    def breaks(self, text: str) -> None:
        """A promise was broken: tell, and remember."""
        say(f"BROKEN: {text}")
        self.broken.append(text)


def say(text: str) -> None:
    """Tell what is going on."""
    sys.stderr.write(f"chaos: {text}\n")
    sys.stderr.flush()
