"""Who is there, who is gone, and whose word on it counts: the one place that says so. Pure.

A component says itself that it is there and, when it stops, that it is offline; the broker says of
one that dies that it is lost. Who dies together with the broker is found out by silence: workers no
longer echo heartbeats, clients no longer repeat that they are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from icebus.schemas.components import (
    ClientState,
    ControlState,
    Heartbeat,
    WorkerHeartbeat,
    WorkerPhase,
    WorkerState,
)

STALE_AFTER = 3
"""Heartbeats a worker may miss. One is lost easily (the echo is QoS 0), three are not."""

SILENT_AFTER = 3
"""Repetitions that a client which repeats that it is there may miss before it counts as lost."""

RETURN_TIME = 5.0
"""Seconds that a worker that has gone may take to be back before its devices count as lost: one
that lost its connection needs a second or two, one that is started again about three."""

GONE: Mapping[str, str] = {
    WorkerPhase.LOST: "lost its connection or died",
    WorkerPhase.OFFLINE: "was stopped",
}
"""The states of a component that is not there, and what became of it. Controls and clients use the
same words for them as workers."""

State = TypeVar("State", ControlState, WorkerState, ClientState)


class Health(StrEnum):
    """Whether a worker can be relied on."""

    READY = "ready"
    """Ready and answering: its devices may be given out."""
    UNSCHEDULABLE = "unschedulable"
    """Answering but starting or draining: it keeps its reservations and gets no new ones."""
    UNKNOWN = "unknown"
    """It has not answered, and could not be expected to yet."""
    GONE = "gone"
    """Dead, stopped or silent: what it held has failed."""

    @property
    def answers(self) -> bool | None:
        """Whether such a worker answers heartbeats; None where that is not known."""
        return None if self is Health.UNKNOWN else self is not Health.GONE


def is_gone(state: ControlState | WorkerState | ClientState) -> bool:
    """Whether that is said of a component that is not there."""
    return state.state in GONE


def lists_all(state: WorkerState) -> bool:
    """Whether a worker's list of devices is complete; while it starts, it is still growing."""
    return state.state in (WorkerPhase.READY, WorkerPhase.DRAINING)


def is_late(before: State | None, after: State) -> bool:
    """Whether ``after`` is the end of a run of a component that another run has replaced.

    The broker speaks the last will of a run when it notices that the connection is dead, and a
    stopped run may say goodbye after its successor has come. Neither is the successor's end. To
    take it for that would fail all that the successor does, for good; to ignore the end of a run
    of which nobody heard before is found out within a few heartbeats.
    """
    return (
        before is not None
        and not is_gone(before)
        and is_gone(after)
        and before.session != after.session
    )


def stale_after(interval: float) -> float:
    """Seconds without an answer after which a worker is gone.

    Args:
        interval: seconds between heartbeats.
    """
    return STALE_AFTER * interval


def health(state: WorkerState | None, *, answers: bool, expected: bool) -> Health:
    """How a worker stands.

    Args:
        state: what it said last; None if nothing.
        answers: whether this run of it has answered a heartbeat that is recent enough.
        expected: whether it has had time enough to answer.
    """
    if state is not None and is_gone(state):
        return Health.GONE
    if state is None or not answers:
        return Health.GONE if expected else Health.UNKNOWN
    return Health.READY if state.state is WorkerPhase.READY else Health.UNSCHEDULABLE


def echo_age(heartbeat: Heartbeat | None, echo: WorkerHeartbeat | None) -> float | None:
    """Seconds since the heartbeat that a worker has echoed, in whole intervals; None for never.

    Counted in control's heartbeats, so that no clock has to agree with another.
    """
    if heartbeat is None or echo is None or echo.epoch != heartbeat.epoch:
        return None
    return max(0, heartbeat.sequence - echo.sequence) * heartbeat.interval


def retained_health(
    state: WorkerState | None, heartbeat: Heartbeat | None, echo: WorkerHeartbeat | None
) -> Health:
    """How a worker stands by what is retained of it, with no time to wait for its answer.

    Args:
        state: the worker's.
        heartbeat: control's; without one nobody can be expected to answer.
        echo: the worker's answer.
    """
    age = echo_age(heartbeat, echo)
    answers = (
        age is not None
        and heartbeat is not None
        and age <= stale_after(heartbeat.interval)
        and state is not None
        and echo is not None
        and echo.session == state.session
    )
    return health(state, answers=answers, expected=state is None or heartbeat is not None)
