"""Whether a control is well: facts from the broker, the database and this machine, and the verdict.

Facts are gathered with the credentials that control has, whether or not it runs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from icebus.broker.tls.authority import ends_of
from icebus.bus import BrokerAddress, glance
from icebus.control.store.looking import DatabaseSeen, file_of, look_at
from icebus.schemas.components import ControlState, Heartbeat
from icebus.schemas.deadline import Deadline
from icebus.schemas.liveness import is_gone
from icebus.schemas.supervision.facts import ProgramFacts, installed_at, space_at
from icebus.schemas.supervision.health import (
    Finding,
    Verdict,
    critical,
    judge_presence,
    judge_surroundings,
    ok,
    unknown,
    warning,
)
from icebus.schemas.topics import CONTROL_HEARTBEAT, CONTROL_STATE, Role


@dataclass(frozen=True)
class Facts(ProgramFacts):
    """What was found out about a control.

    Attributes:
        state: what the broker has of it; None for nothing.
        heartbeat: of whoever leads; None when nobody has beaten of late.
        database: None where it was not looked at.
    """

    state: ControlState | None = None
    heartbeat: Heartbeat | None = None
    database: DatabaseSeen | None = None


def judge(facts: Facts) -> Verdict:
    """The verdict on what was found out."""
    seen = facts.database
    other = None if seen is None or seen.clock is None else ("the database", seen.clock)
    return Verdict.of(
        f"control {facts.name}",
        (
            judge_presence(facts.broker, facts.state, _judge_running),
            _judge_leading(facts),
            _judge_database(facts),
            *judge_surroundings(facts, "control's certificate", other),
        ),
    )


def _judge_running(state: ControlState) -> Finding:
    return ok("running", "it leads" if state.leading else "it stands by")


def _judge_leading(facts: Facts) -> Finding | None:
    if facts.broker:
        return None
    if facts.heartbeat is None:
        return critical("leadership", "nobody leads: no control has beaten of late")
    return ok("leadership", "the leader beats")


def _judge_database(facts: Facts) -> Finding:
    state = facts.state
    if state is not None and state.database is not None and not is_gone(state):
        trouble = state.database
        since = f"{trouble.since:%Y-%m-%d %H:%M:%S} UTC"
        return critical("database", f"its database {trouble.words} since {since}: {trouble.remedy}")
    seen = facts.database
    if seen is not None and seen.problem:
        return critical("database", seen.problem)
    if seen is not None and seen.missing:
        return warning("database", seen.missing)
    if seen is None and facts.state is None:
        return unknown(
            "database", "its database was not looked at: ICEBUS_DATABASE is not set here"
        )
    return ok("database", "its database answers")


def look(address: BrokerAddress, database: str | None, seconds: float) -> Verdict:
    """Gather facts, and judge them.

    Args:
        address: the broker, and which control.
        database: its URL; None where it is not known here.
        seconds: to look for, about.

    Raises:
        WrongRole: the credentials are none of a control.
    """
    deadline = Deadline.after(seconds)
    seen = None if database is None else look_at(database, deadline)
    file = None if database is None else file_of(database)
    found = glance(
        address,
        "health",
        [(CONTROL_STATE, {"control": address.user}), (CONTROL_HEARTBEAT, {})],
        partial(_is_all, address.user),
        deadline,
        (Role.CONTROL, "icebus-control"),
    )
    state = found.messages.get(CONTROL_STATE(control=address.user))
    heartbeat = found.messages.get(CONTROL_HEARTBEAT())
    return judge(
        Facts(
            name=address.user,
            broker="" if found.problem is None else str(found.problem.message),
            state=state if isinstance(state, ControlState) else None,
            heartbeat=heartbeat if isinstance(heartbeat, Heartbeat) else None,
            database=seen,
            space=None if file is None else space_at(Path(file)),
            broker_ends=found.certificate_ends,
            own_ends=ends_of(address.certificate),
            now=time.time(),
            installed=installed_at(),
        )
    )


def _is_all(name: str, messages: dict[str, BaseModel]) -> bool:
    return CONTROL_STATE(control=name) in messages and CONTROL_HEARTBEAT() in messages
