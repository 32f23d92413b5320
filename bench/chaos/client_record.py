"""What a client in a run of chaos writes down: what it asks to be evaluated, and what it gets.

It writes a line before it gives bitstreams to the library and one for each outcome, so that what a
killed client knew is still there. The lines are checked when all is over.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.population import individual

EXPECTED_FAILURES = frozenset(
    {
        "broker_unavailable",
        "deadline_exceeded",
        "device_failed",
        "device_not_held",
        "device_not_serving",
        "device_unplugged",
        "measurement_failed",
        "reservation_ended",
        "worker_lost",
        "worker_restarted",
    }
)
"""What an evaluation may fail with here: something was killed, cut or unplugged. Anything else,
such as a bitstream found invalid, breaks a promise."""


GIVEN_UP_BY_CLIENT = frozenset(
    {
        "broker_unavailable",
        "deadline_exceeded",
        "device_failed",
        "device_not_serving",
        "worker_lost",
        "worker_restarted",
    }
)
"""How a client may end an evaluation without its worker's word. If it dies before the worker is
back to be told, the worker keeps what was measured for whoever attaches to the reservation."""


class ClientRecord:
    """Appends lines to a file, each in one write: a client that is killed leaves whole lines."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, what: str, **values: Any) -> None:
        """Write a line."""
        self._file.write(json.dumps({"what": what, **values}).encode() + b"\n")


@dataclass
class ClientSummary:
    """What the record of a client says.

    Attributes:
        results: evaluations with a count.
        failures: evaluations that failed typed, by code.
        interrupted: evaluations that were under way when the client was killed.
        collected: outcomes of those that the client collected when started again.
        other_errors: errors of other operations, such as reserving, by code.
        starts: times that the client was started.
        runs: calls of `map` and `evaluate`.
        broken: promises that were broken, in words.
        last: the last line.
    """

    results: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    interrupted: int = 0
    collected: int = 0
    other_errors: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    runs: int = 0
    broken: list[str] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)


def read_record(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a record."""
    if path.exists():
        for line in path.read_bytes().splitlines():
            yield json.loads(line)


def check_record(lines: Iterable[dict[str, Any]], window: float) -> ClientSummary:
    """Check that each evaluation had exactly one outcome, and that the counts are right.

    A run in which the client was killed may lack outcomes, but none may come twice.
    """
    summary = ClientSummary()
    awaited: dict[str, int] = {}
    run = ""
    known: dict[str, int | str] = {}
    for line in lines:
        summary.last = line
        match line["what"]:
            case "start":
                summary.starts += 1
                summary.interrupted += sum(awaited.values())
                awaited, run = {}, ""
            case "run":
                summary.runs += 1
                run = line["run"]
                awaited = {_key(name, serial): 1 for name in line["names"] for serial in line["on"]}
            case "outcome":
                board = line["serial"] if line["everywhere"] else ""
                key = _key(line["name"], board)
                if awaited.pop(key, None) is None:
                    summary.broken.append(f"run {run}: an outcome of {key} that nobody waits for")
                _check_outcome(summary, line, window)
                summary.results += "pulses" in line
                summary.failures.update([line["code"]] if "code" in line else [])
                known[line["evaluation"]] = _count_or_code(line)
            case "collected":
                _check_outcome(summary, line, window)
                summary.collected += 1
                # The killed process may have got it, and had no time to acknowledge it.
                before = known.setdefault(line["evaluation"], _count_or_code(line))
                if before != _count_or_code(line) and before not in GIVEN_UP_BY_CLIENT:
                    summary.broken.append(f"{line['evaluation']} was measured twice: {line}")
            case "end":
                if awaited:
                    summary.broken.append(
                        f"run {run}: {len(awaited)} evaluations without an outcome"
                    )
                awaited = {}
            case "refused":
                # The run was refused: nothing was evaluated, so nothing is awaited.
                if line["outcomes"]:
                    summary.broken.append(f"run {run}: {line['code']} raised among its outcomes")
                summary.other_errors[line["code"]] += 1
                awaited = {}
            case "error":
                summary.other_errors[line["code"]] += 1
    summary.interrupted += sum(awaited.values())
    return summary


def measured_holds(lines: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The reservations of a client, each with a device that measured in it."""
    reservation = ""
    for line in lines:
        if line["what"] == "held":
            reservation = line["id"]
        elif "pulses" in line:
            yield reservation, line["serial"]


def _count_or_code(line: dict[str, Any]) -> int | str:
    """What an outcome says: a count, or the code of a failure."""
    value: int | str = line["pulses"] if "pulses" in line else line["code"]
    return value


def _key(name: str, serial: str) -> str:
    return f"{name} on {serial}" if serial else name


def _check_outcome(summary: ClientSummary, line: dict[str, Any], window: float) -> None:
    code = line.get("code")
    if code is not None:
        if code not in EXPECTED_FAILURES:
            summary.broken.append(f"{line['name']} failed with {code}: {line['message']}")
        return
    step = int(line["name"].removeprefix("nco_").removesuffix(".bin"))
    possible = individual(step).counts(window)
    if line["pulses"] not in possible or not line["exact"]:
        summary.broken.append(
            f"{line['name']} on {line['serial']}: {line['pulses']} pulses, not {possible}"
        )
