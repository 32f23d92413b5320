"""Giving up what waits at boards for a run that was left before its end."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate

from icebus.bus import Answer
from icebus.client._connection.connection import Connection
from icebus.client._reservation.reservation import Reservation
from icebus.schemas.calls import Call, CallResults
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError
from icebus.schemas.measuring import Withdrawn
from icebus.schemas.wording import counted

log = logging.getLogger(__name__)

TIMEOUT = 2.0
"""Seconds for workers to answer: whoever left the run, perhaps by Ctrl-C, waits for it."""


def withdraw(
    connection: Connection, reservation: Reservation, batch: str, serials: Iterable[str]
) -> Withdrawn:
    """Have boards give up what waits there of a batch; returns what that was, and logs it.

    Best effort: what can't be withdrawn is measured, and its outcomes are kept for ``collect``.
    """
    deadline = Deadline.after(TIMEOUT)
    sent: Future[list[Answer[CallResults]]] = Future()

    def send() -> None:
        workers: dict[str, list[str]] = {}
        try:
            for serial in serials:
                workers.setdefault(reservation.device(serial).worker, []).append(serial)
            sent.set_result(
                [
                    connection.call(worker, "withdraw", _call(reservation, batch, theirs), deadline)
                    for worker, theirs in workers.items()
                ]
            )
        except IcebusError as error:
            sent.set_exception(error)

    # On the dispatcher, behind the calls that brought the boards their evaluations.
    connection.bus.call_soon(send)
    withdrawn = measuring = 0
    try:
        for answer in sent.result(deadline.remaining):
            for reply in answer.wait().results.values():
                told = Withdrawn.model_validate(reply)
                withdrawn += told.withdrawn
                measuring += told.measuring
    except (IcebusError, TooLate, ValueError) as error:
        log.info("what waits at boards was not withdrawn: %s", error)
    given_up = Withdrawn(withdrawn=withdrawn, measuring=measuring)
    if withdrawn or measuring:
        log.warning("%s", in_words(given_up))
    return given_up


def in_words(given_up: Withdrawn, *, kept: bool = True) -> str:
    """What was given up, for people.

    Args:
        given_up: what it was.
        kept: whether the reservation goes on, whose outcomes can be collected.
    """
    waited = f"{counted(given_up.withdrawn, 'evaluation')} given up"
    if not given_up.measuring:
        return waited
    on_boards = f"{waited}; {given_up.measuring} on boards already"
    if kept:
        return f"{on_boards}, of which the outcomes are kept"
    return f"{on_boards}, which are given up with the reservation of this run"


def _call(reservation: Reservation, batch: str, serials: list[str]) -> Call:
    return Call(reservation=reservation.id, serials=serials, args={"batch": batch})
