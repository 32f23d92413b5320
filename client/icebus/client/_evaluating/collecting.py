"""Collecting outcomes that nobody was there to take, such as those of a client that crashed."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from pydantic import JsonValue, ValidationError

from icebus.bus import interruptible
from icebus.client._connection.connection import Connection
from icebus.client._reservation.device_calls import call_devices
from icebus.client._reservation.reservation import Reservation
from icebus.schemas.calls import CallResults
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import DeadlineExceeded, IcebusError, RemoteError
from icebus.schemas.measuring import Collected, Failure, Result
from icebus.schemas.message import invalid

CALL_TIMEOUT = 30.0
"""Seconds for a worker to answer; it answers within milliseconds."""

PAUSE = 2.0
"""Seconds to wait for an outcome that is to come before boards are asked again."""

AT_ONCE = 64
"""Outcomes that are acknowledged together: what a crash of the collecting client has repeated."""


R = TypeVar("R", bound=Result)


class Collector(Generic[R]):
    """Takes what boards of a reservation have measured and nobody has acknowledged.

    Each outcome is handed out once and acknowledged when the next is asked for: one that the caller
    did not get to the end of is repeated to whoever collects next.

    Args:
        connection: to the workers.
        reservation: that holds the boards.
        stall: seconds without any outcome, with some to come, after which it is given up.
        acknowledge: whether to; otherwise the caller does.
    """

    def __init__(
        self, connection: Connection, reservation: Reservation, stall: float, *, acknowledge: bool
    ) -> None:
        self._connection = connection
        self._reservation = reservation
        self._stall = stall
        self._acknowledges = acknowledge
        self._inbox: queue.SimpleQueue[R | Failure | None] = queue.SimpleQueue()
        self._seen: set[tuple[str, str]] = set()
        self._taken: dict[str, list[str]] = {}
        self._after: dict[str, int] = {}

    def put(self, outcome: R | Failure) -> None:
        """An outcome has come; runs on the dispatcher."""
        self._inbox.put(outcome)

    def outcomes(self) -> Iterator[R | Failure]:
        """Hand out outcomes until boards have none left and measure nothing.

        Raises:
            IcebusError: a board could not be asked; all that others had was handed out before.
        """
        asked, error = list(self._reservation.serials), None
        deadline = Deadline.after(self._stall)
        try:
            while asked:
                answers, errors = self._ask(asked)
                error = error or next(iter(errors.values()), None)
                if not any(each.repeated or each.outstanding for each in answers.values()):
                    break
                asked = [s for s, each in answers.items() if self._has_more(s, each)]
                for outcome in self._take():
                    deadline = Deadline.after(self._stall)
                    yield outcome
                    self._outcome_taken(outcome)
                if asked and deadline.expired:
                    raise DeadlineExceeded(
                        f"{', '.join(asked)} told of no outcome in {self._stall:g} s; "
                        "`icebus devices` shows what they do",
                        serials=asked,
                    )
        finally:
            self._acknowledge(least=1)
        if error is not None:
            raise error

    def _has_more(self, serial: str, told: Collected) -> bool:
        """Whether to ask a board once more: it has another page, or will have more."""
        if self._acknowledges:
            return bool(told.repeated or told.outstanding)
        self._after[serial] = told.next or self._after.get(serial, 0)
        return bool(told.next or told.outstanding)

    def _take(self) -> Iterator[R | Failure]:
        """What has come, or what comes next if nothing has."""
        wait = PAUSE
        while True:
            try:
                with interruptible(lambda: self._inbox.put(None)):
                    outcome = self._inbox.get(timeout=wait)
            except queue.Empty:
                self._acknowledge(least=1)
                return
            if outcome is None:
                continue
            key = (outcome.serial, outcome.evaluation)
            if key not in self._seen:
                self._seen.add(key)
                wait = 0.0
                yield outcome

    def _ask(self, serials: Sequence[str]) -> tuple[dict[str, Collected], dict[str, IcebusError]]:
        """What the boards say they have, and why others say nothing."""
        problems = {s: e for s in serials if (e := self._reservation.problem(s)) is not None}
        answering = [serial for serial in serials if serial not in problems]
        if not answering:
            return {}, problems
        answers: dict[str, Collected] = {}
        # What is acknowledged is not repeated; otherwise each board goes on from page to page.
        for chosen in [answering] if self._acknowledges else [[each] for each in answering]:
            told = self._call(chosen, "collect", {"after": self._after.get(chosen[0], 0)})
            problems |= {s: IcebusError.from_info(info) for s, info in told.errors.items()}
            answers |= {s: _read(answer) for s, answer in told.results.items()}
        return answers, problems

    def _outcome_taken(self, outcome: R | Failure) -> None:
        if not self._acknowledges:
            return
        self._taken.setdefault(outcome.serial, []).append(outcome.evaluation)
        self._acknowledge(least=AT_ONCE)

    def _acknowledge(self, least: int) -> None:
        for serial, evaluations in self._taken.items():
            if len(evaluations) >= least:
                self._call([serial], "acknowledge", {"evaluations": evaluations})
                evaluations.clear()

    def _call(self, serials: Sequence[str], method: str, args: dict[str, object]) -> CallResults:
        deadline = Deadline.after(CALL_TIMEOUT)
        return call_devices(
            self._connection, self._reservation, serials, method, args, (), deadline
        )


def _read(answer: JsonValue) -> Collected:
    try:
        return Collected.model_validate(answer)
    except ValidationError as error:
        raise RemoteError(invalid(error, "the worker's answer").message) from None
