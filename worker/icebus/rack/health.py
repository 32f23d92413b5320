"""Whether a rack is well: facts from its folder, and the verdict."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icebus.rack.lock import is_running
from icebus.schemas.boards.rack import read_boards, read_rack_file
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.supervision.facts import Space, installed_at, space_at
from icebus.schemas.supervision.health import (
    Finding,
    Verdict,
    critical,
    judge_clock,
    judge_space,
    ok,
    warning,
)
from icebus.schemas.wording import counted

if TYPE_CHECKING:
    from pathlib import Path

NAMED = 3
"""Boards that are named; more are counted."""


@dataclass(frozen=True)
class Facts:
    """What was found out about a rack.

    Attributes:
        directory: of its boards.
        runs: whether a rack runs there.
        plugged: the ports that boards are plugged into; None where no file says so.
        present: the ports that show one now.
        faults: what is wrong on purpose, by port.
        problem: why the list of boards can't be read; empty when it can.
        space: of the disk.
        now: by this machine's clock.
        installed: when this program was.
    """

    directory: Path
    runs: bool
    plugged: tuple[str, ...] | None
    present: frozenset[str]
    faults: dict[str, str]
    problem: str
    space: Space
    now: float
    installed: float


def judge(facts: Facts) -> Verdict:
    """The verdict on what was found out."""
    running = (
        ok("running", f"it runs in {facts.directory}")
        if facts.runs
        else critical("running", f"no rack runs in {facts.directory}")
    )
    return Verdict.of(
        "rack",
        (
            running,
            _judge_boards(facts),
            judge_space(facts.space),
            judge_clock(facts.now, facts.installed),
        ),
    )


def _judge_boards(facts: Facts) -> Finding | None:
    if facts.problem:
        return warning("boards", facts.problem)
    if not facts.runs:
        return None
    if not facts.plugged:
        return warning("boards", "no boards are plugged")
    absent = [port for port in facts.plugged if port not in facts.present]
    count = counted(len(facts.plugged), "board")
    if len(absent) == len(facts.plugged):
        return critical("boards", f"none of {count} is there")
    # One that changes its mode is absent for a moment.
    faulty = [f"{port} ({fault})" for port, fault in sorted(facts.faults.items())]
    wrong = [*(f"{port} absent" for port in absent), *faulty]
    if wrong:
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        return warning("boards", f"of {count}: {', '.join(wrong[:NAMED])}{more}")
    return ok("boards", f"{count} there")


def look(directory: Path) -> Verdict:
    """Gather facts, and judge them."""
    problem, rack = "", None
    try:
        rack = read_rack_file(directory)
    except InvalidRequest as error:
        problem = error.message
    return judge(
        Facts(
            directory=directory,
            runs=is_running(directory),
            plugged=None if rack is None else tuple(each.port for each in rack.boards),
            present=frozenset(each.port for each in read_boards(directory)),
            faults={}
            if rack is None
            else {each.port: each.fault.value for each in rack.boards if each.fault is not None},
            problem=problem,
            space=space_at(directory),
            now=time.time(),
            installed=installed_at(),
        )
    )
