"""Whether a worker is well: facts from the broker and this machine, and the verdict.

Facts are gathered with the credentials that the worker has, whether or not it runs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from icebus.broker.tls.authority import ends_of
from icebus.bus import BrokerAddress, glance
from icebus.schemas.components import Heartbeat, WorkerHeartbeat, WorkerPhase, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.liveness import Health, is_gone, retained_health
from icebus.schemas.supervision.facts import ProgramFacts, installed_at, space_at
from icebus.schemas.supervision.health import (
    Finding,
    Verdict,
    critical,
    judge_presence,
    judge_surroundings,
    ok,
    warning,
)
from icebus.schemas.topics import CONTROL_HEARTBEAT, DEVICE, WORKER_HEARTBEAT, WORKER_STATE, Role
from icebus.schemas.wording import counted

BAD = (DeviceState.ABSENT, DeviceState.BROKEN, DeviceState.QUARANTINED)
"""States of a board that is of no use now."""

NAMED = 3
"""Boards that are named; more are counted."""


@dataclass(frozen=True)
class Facts(ProgramFacts):
    """What was found out about a worker.

    Attributes:
        state: what the broker has of it; None for nothing.
        heartbeat: control's; None when nobody has beaten of late.
        echo: the worker's answer.
        boards: its reports, by serial.
    """

    state: WorkerState | None = None
    heartbeat: Heartbeat | None = None
    echo: WorkerHeartbeat | None = None
    boards: Mapping[str, DeviceReport] = field(default_factory=dict)


def judge(facts: Facts) -> Verdict:
    """The verdict on what was found out."""
    return Verdict.of(
        f"worker {facts.name}",
        (
            judge_presence(facts.broker, facts.state, _judge_running),
            _judge_answers(facts),
            _judge_boards(facts),
            *judge_surroundings(facts, "the worker's certificate"),
        ),
    )


def _runs(facts: Facts) -> bool:
    return not facts.broker and facts.state is not None and not is_gone(facts.state)


def _judge_running(state: WorkerState) -> Finding:
    if state.state is WorkerPhase.INIT:
        return warning("running", "it is still looking for boards")
    if state.state is WorkerPhase.DRAINING:
        return warning("running", f"it drains: {state.draining or 'it is being stopped'}")
    return ok("running", "it is ready")


def _judge_answers(facts: Facts) -> Finding | None:
    if not _runs(facts):
        return None
    if facts.heartbeat is None:
        return warning("control", "control is silent: nobody can reserve")
    if retained_health(facts.state, facts.heartbeat, facts.echo) is Health.GONE:
        return critical("control", "it does not answer control: it hangs")
    return ok("control", "it answers control")


def _judge_boards(facts: Facts) -> Finding | None:
    if not _runs(facts) or facts.state is None or facts.state.state is WorkerPhase.INIT:
        return None
    serials = facts.state.serials
    if not serials:
        return critical("boards", "it has no boards")
    states = Counter(facts.boards[each].state.value for each in serials if each in facts.boards)
    shown = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    bad = [each for each in serials if each in facts.boards and facts.boards[each].state in BAD]
    unreported = len(serials) - sum(states.values())
    if unreported:
        return warning("boards", f"{counted(unreported, 'board')} not reported on")
    if not bad:
        return ok("boards", f"{counted(len(serials), 'board')}: {shown}")
    named = ", ".join(_why(facts.boards[each]) for each in bad[:NAMED])
    more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    if len(bad) == len(serials):
        return critical("boards", f"no board is of use: {named}{more}")
    return warning("boards", f"{len(bad)} of {counted(len(serials), 'board')}: {named}{more}")


def _why(report: DeviceReport) -> str:
    why = f" ({report.reason})" if report.reason else ""
    return f"{report.serial} {report.state.value}{why}"


def look(address: BrokerAddress, directory: Path, seconds: float) -> Verdict:
    """Gather facts, and judge them.

    Args:
        address: the broker, and which worker.
        directory: where its journals are.
        seconds: to look for, about.

    Raises:
        WrongRole: the credentials are none of a worker.
    """
    name = address.user
    found = glance(
        address,
        "health",
        [
            (WORKER_STATE, {"worker": name}),
            (WORKER_HEARTBEAT, {"worker": name}),
            (DEVICE, {"worker": name}),
            (CONTROL_HEARTBEAT, {}),
        ],
        partial(_is_all, name),
        Deadline.after(seconds),
        (Role.WORKER, "icebus-worker"),
    )
    state = found.messages.get(WORKER_STATE(worker=name))
    heartbeat = found.messages.get(CONTROL_HEARTBEAT())
    echo = found.messages.get(WORKER_HEARTBEAT(worker=name))
    return judge(
        Facts(
            name=name,
            broker="" if found.problem is None else str(found.problem.message),
            state=state if isinstance(state, WorkerState) else None,
            heartbeat=heartbeat if isinstance(heartbeat, Heartbeat) else None,
            echo=echo if isinstance(echo, WorkerHeartbeat) else None,
            boards={
                each.serial: each
                for each in found.messages.values()
                if isinstance(each, DeviceReport)
            },
            space=space_at(directory),
            broker_ends=found.certificate_ends,
            own_ends=ends_of(address.certificate),
            now=time.time(),
            installed=installed_at(),
        )
    )


def _is_all(name: str, messages: dict[str, BaseModel]) -> bool:
    state = messages.get(WORKER_STATE(worker=name))
    echo, beat = messages.get(WORKER_HEARTBEAT(worker=name)), messages.get(CONTROL_HEARTBEAT())
    if not isinstance(state, WorkerState) or not isinstance(echo, WorkerHeartbeat):
        return False
    reported = all(DEVICE(worker=name, serial=each) in messages for each in state.serials)
    # An echo that the broker has kept may be older than the heartbeat: the next one tells.
    return isinstance(beat, Heartbeat) and echo.epoch == beat.epoch and reported
