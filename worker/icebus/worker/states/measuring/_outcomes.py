"""Evaluations of one reservation on one device and their outcomes: journalled, sent, repeated."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from icebus.schemas.errors import IcebusError, InvalidRequest, JournalUnavailable, KindFailed
from icebus.schemas.files import File
from icebus.schemas.measuring import COLLECT_PAGE, Failure, Outcome
from icebus.schemas.message import now
from icebus.schemas.programs.logs import about
from icebus.worker.device.journal import Journal, StoredOutcome
from icebus.worker.states._framework import Reservable
from icebus.worker.states._mistakes import mistakes_of

log = logging.getLogger(__name__)

AnyOutcome = TypeVar("AnyOutcome", bound=Outcome)

WRITE_AGAIN = 5.0
"""Seconds until an outcome is written down again that the disk had no room for."""

DIGITS = 6
"""Of seconds that are told: what else a clock gives only makes messages longer."""

LONGEST_ENTRY = 64 << 10
"""Bytes of JSON that an evaluation is described with, mostly the client's annotations: they go back
with its outcome, which has to fit into one message."""

LONGEST_OUTCOME = 1 << 20
"""Bytes of JSON of an outcome: a broker takes 2 MiB in one message."""


class Entry(Outcome):
    """An accepted evaluation as the journal describes it; ``at`` is when it was accepted."""

    @classmethod
    def accepted(cls, serial: str, file: File, batch: str) -> Entry:
        """Of a file that is accepted now."""
        return cls(
            serial=serial,
            evaluation=file.id,
            batch=batch,
            bitstream=file.name,
            sha256=file.hash,
            annotations=file.annotations,
            at=now(),
        )

    def json_text(self) -> str:
        """What the journal keeps.

        Raises:
            InvalidRequest: it is too long.
        """
        described = self.model_dump_json()
        if len(described.encode()) > LONGEST_ENTRY:
            raise InvalidRequest(
                f"{self.bitstream}: its annotations are too long; keep them by the evaluation's id "
                f"instead, or below {LONGEST_ENTRY} bytes",
                limit=LONGEST_ENTRY,
            )
        return described

    def envelope(self, queued: float | None = None) -> dict[str, object]:
        """What its outcome says besides what came out, as of now.

        Args:
            queued: seconds that it waited for the board; None where nobody knows.
        """
        seconds = None if queued is None else round(max(0.0, queued), DIGITS)
        return {**self.__dict__, "at": now(), "queued": seconds}

    def failure(self, error: IcebusError, queued: float | None = None) -> Failure:
        """Its outcome, when it will have no result."""
        return Failure(**self.envelope(queued), error=error)


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that has no outcome yet.

    Attributes:
        entry: as the journal describes it.
        file: what is measured.
        args: how, as the kind's model says.
        note: what was done to it before it is sent; empty if nothing.
        ready: what the meter is given for it; None if that is to be made when it is its turn.
        problem: why a file that was not to be validated is no valid bitstream; empty if it is.
        accepted: when, on the monotonic clock.
    """

    entry: Entry
    file: File
    args: BaseModel
    note: str = ""
    ready: bytes | None = None
    problem: str = ""
    accepted: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> str:
        """The id that the client gave it."""
        return self.entry.evaluation

    @property
    def age(self) -> float:
        """Seconds since it was accepted."""
        return time.monotonic() - self.accepted


class Outcomes:
    """Keeps them for one state.

    Args:
        state: whose they are.
    """

    def __init__(self, state: Reservable) -> None:
        self._state = state
        self._reservation = state.hold.reservation
        self._unwritten: deque[StoredOutcome] = deque()

    @property
    def _journal(self) -> Journal:
        return self._state.device.journal

    def accept(self, evaluations: Iterable[Evaluation], again: Collection[str]) -> None:
        """Write down evaluations, all or none; those of ``again`` failed before."""
        entries = [(each.id, each.entry.json_text()) for each in evaluations]
        self._journal.accept(self._reservation, entries, again)

    def knows(self, evaluation: str) -> bool:
        """Whether that evaluation was accepted and is not yet forgotten."""
        return self._journal.knows(self._reservation, evaluation)

    def has_failed(self, evaluation: str) -> bool:
        """Whether its outcome is a failure."""
        outcome = self._journal.outcome(self._reservation, evaluation)
        return outcome is not None and outcome.event == "failures"

    def add(self, event: str, outcome: Outcome) -> None:
        """Write down an outcome and send it.

        Raises:
            KindFailed: it can't be sent, for what the kind has put into it; nothing was done.
        """
        kind = self._state.kind
        with mistakes_of(kind, "what it gives"):
            text = outcome.model_dump_json()
            length = len(text.encode())
        if length > LONGEST_OUTCOME:
            raise KindFailed(
                f"kind {kind} gives {length} bytes for {outcome.bitstream}, of at most "
                f"{LONGEST_OUTCOME}; the board is well, the kind has to be mended",
                kind=kind,
            )
        self._unwritten.append(StoredOutcome(outcome.evaluation, event, text))
        if len(self._unwritten) == 1:  # or the others are waited for
            self.write()
        self._state.device.emit_json(self._state.hold, event, text)

    def write(self) -> None:
        """Write down the outcomes that are not; those that can't be are tried again later."""
        while self._unwritten:
            first = self._unwritten[0]
            try:
                self._journal.write_outcome(
                    self._reservation, first.evaluation, first.event, first.outcome
                )
            except JournalUnavailable as error:
                log.warning(
                    "device %s: outcomes wait: %s",
                    self._state.device.name,
                    error.message,
                    extra=self._about(),
                )
                self._state.after(WRITE_AGAIN, self.write)
                return
            self._unwritten.popleft()

    def repeat(self, evaluation: str) -> None:
        """Send the outcome of an evaluation again, if it has one."""
        outcome = self._journal.outcome(self._reservation, evaluation)
        if outcome is not None:
            self._send_again(outcome)

    def repeat_page(self, after: int) -> tuple[int, int | None]:
        """Send a page of what nobody has acknowledged; gives how many, and where the next is."""
        found = self._journal.outcomes(self._reservation, after, COLLECT_PAGE + 1)
        page, rest = found[:COLLECT_PAGE], found[COLLECT_PAGE:]
        for outcome in page:
            self._send_again(outcome)
        return len(page), page[-1].position if rest else None

    def repeat_all(self) -> None:
        """Send all that nobody has acknowledged."""
        for outcome in self._journal.outcomes(self._reservation):
            self._send_again(outcome)

    def acknowledge(self, evaluations: Iterable[str]) -> int:
        """Forget outcomes that have arrived; returns how many."""
        return self._journal.acknowledge(self._reservation, evaluations)

    @property
    def unacknowledged(self) -> int:
        """How many nobody has acknowledged."""
        return self._journal.count_outcomes(self._reservation)

    def forget_others(self) -> None:
        """Forget what belongs to reservations that are over."""
        try:
            self._journal.keep_only(self._reservation)
        except JournalUnavailable as full:
            # Only tidying.
            name = self._state.device.name
            log.warning("device %s: %s", name, full.message, extra=self._about())

    def without_outcome(self) -> list[Entry]:
        """What the worker had accepted before it was restarted."""
        found = self._journal.without_outcome(self._reservation)
        return [self._here(Entry.model_validate_json(entry)) for entry in found]

    def _about(self) -> dict[str, str]:
        return about(self._state.device.name, reservation=self._reservation)

    def _send_again(self, stored: StoredOutcome) -> None:
        try:
            model = self._state.events[stored.event].data
            outcome = self._here(model.model_validate_json(stored.outcome))
        except (KeyError, ValidationError):
            name = self._state.device.name
            log.exception("device %s: unreadable outcome in the journal", name, extra=self._about())
            return
        self._state.device.emit(self._state.hold, stored.event, outcome)

    def _here(self, outcome: AnyOutcome) -> AnyOutcome:
        """Journals of version 0.1 do not name the device, which is this one."""
        if outcome.serial:
            return outcome
        return outcome.model_copy(update={"serial": self._state.device.name})
