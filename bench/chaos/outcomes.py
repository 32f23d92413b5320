"""The ledger of a client in a run of chaos: what it was promised and what it got, line by line.

A client writes a line before it gives bitstreams to the library and one for each outcome, so that
what a killed one knew is still there. The audit reads them when all is over.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.population import individual

EXPLAINED = frozenset(
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
"""What an evaluation may fail with here: something was killed, cut or unplugged. All else, such as
a bitstream found invalid, is a fault of ours."""


GIVEN_UP = frozenset(
    {
        "broker_unavailable",
        "deadline_exceeded",
        "device_failed",
        "device_not_serving",
        "worker_lost",
        "worker_restarted",
    }
)
"""What a client may say of an evaluation without its worker's word. If it dies before the worker is
back to be told, the worker keeps what was measured for whoever takes up the reservation."""


class Ledger:
    """Appends lines, each in one write: a process killed between two leaves whole ones."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def note(self, what: str, **values: Any) -> None:
        """Write a line."""
        self._file.write(json.dumps({"what": what, **values}).encode() + b"\n")


@dataclass
class Account:
    """What a client's ledger comes to.

    Attributes:
        results: evaluations with a right count.
        failures: evaluations that failed typed, by code.
        unknown: evaluations that were under way when the client was killed.
        collected: outcomes of those that a later life fetched.
        troubles: errors of other operations, such as reserving, by code.
        lives: times that the client was started.
        runs: calls of `map` and `evaluate`.
        broken: promises that were, in words.
        last: what the last line says.
    """

    results: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    collected: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    lives: int = 0
    runs: int = 0
    broken: list[str] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ledger."""
    if path.exists():
        for line in path.read_bytes().splitlines():
            yield json.loads(line)


def audit(lines: Iterable[dict[str, Any]], window: float) -> Account:
    """Hold a ledger against the promise of exactly one outcome, and against arithmetic.

    A run that its client did not live to see the end of may lack outcomes, but none may come twice.
    """
    account = Account()
    owed: dict[str, int] = {}
    run = ""
    told: dict[str, int | str] = {}
    for line in lines:
        account.last = line
        match line["what"]:
            case "life":
                account.lives += 1
                account.unknown += sum(owed.values())
                owed, run = {}, ""
            case "run":
                account.runs += 1
                run = line["run"]
                owed = {_key(name, serial): 1 for name in line["names"] for serial in line["on"]}
            case "outcome":
                where = line["serial"] if line["everywhere"] else ""
                key = _key(line["name"], where)
                if owed.pop(key, None) is None:
                    account.broken.append(f"run {run}: an outcome of {key} nobody waits for")
                _judge(account, line, window)
                account.results += "pulses" in line
                account.failures.update([line["code"]] if "code" in line else [])
                told[line["evaluation"]] = _word(line)
            case "collected":
                _judge(account, line, window)
                account.collected += 1
                # It may be one that the life before got and had no time to acknowledge.
                before = told.setdefault(line["evaluation"], _word(line))
                if before != _word(line) and before not in GIVEN_UP:
                    account.broken.append(f"{line['evaluation']} was measured twice: {line}")
            case "end":
                if owed:
                    account.broken.append(f"run {run}: {len(owed)} evaluations without an outcome")
                owed = {}
            case "refused":
                # Over before it began: nothing was evaluated, so nothing is owed.
                if line["outcomes"]:
                    account.broken.append(f"run {run}: {line['code']} raised among its outcomes")
                account.troubles[line["code"]] += 1
                owed = {}
            case "trouble":
                account.troubles[line["code"]] += 1
            case "broken":
                account.broken.append(line["text"])
    account.unknown += sum(owed.values())
    return account


def workplaces(lines: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The reservations of a client, each with a device that measured for it."""
    held = ""
    for line in lines:
        if line["what"] == "held":
            held = line["id"]
        elif "pulses" in line:
            yield held, line["serial"]


def _word(line: dict[str, Any]) -> int | str:
    """What an outcome says: a count, or the code of a failure."""
    word: int | str = line["pulses"] if "pulses" in line else line["code"]
    return word


def _key(name: str, serial: str) -> str:
    return f"{name} on {serial}" if serial else name


def _judge(account: Account, line: dict[str, Any], window: float) -> None:
    code = line.get("code")
    if code is not None:
        if code not in EXPLAINED:
            account.broken.append(f"{line['name']} failed with {code}: {line['message']}")
        return
    step = int(line["name"].removeprefix("nco_").removesuffix(".bin"))
    possible = individual(step).counts(window)
    if line["pulses"] not in possible or not line["exact"]:
        account.broken.append(
            f"{line['name']} on {line['serial']}: {line['pulses']} pulses, not {possible}"
        )
