"""Whether the database can be used: said once when it goes and once when it is back.

While it is away nobody waits for it: what is asked of it fails at once, until a *probe*, on a
thread of its own, has written to it (:mod:`icebus.control.store.probing`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError, OperationalError

from icebus.control.store.database_failures import cause_of
from icebus.schemas.database import DatabaseCause, DatabaseTrouble
from icebus.schemas.errors import DatabaseUnavailable
from icebus.schemas.message import now

log = logging.getLogger(__name__)

RETRY_AFTER = 2.0
"""Seconds that whoever is refused is told to wait: it is looked for about as often."""


class Away(OperationalError):
    """The database is away, and was not asked again."""

    def __init__(self) -> None:
        super().__init__("", {}, Exception("the database is away, and is looked for"))


class Availability:
    """Whether a database can be used. Any thread may ask, and tell.

    Attributes:
        trouble: what is the matter with it; None while nothing is.
    """

    def __init__(self) -> None:
        self.trouble: DatabaseTrouble | None = None
        self._lock = threading.Lock()
        self._began = 0.0
        self._closed = False
        self._slow = False
        self._said: set[DatabaseCause] = set()
        self._on_change: list[Callable[[], None]] = []
        self._look_for: Callable[[], None] | None = None

    def on_change(self, act: Callable[[], None]) -> None:
        """Have ``act`` called, on any thread, whenever the trouble is another."""
        self._on_change.append(act)

    def probe_with(self, look_for: Callable[[], None]) -> None:
        """Have what is away left alone until :meth:`found`; ``look_for`` begins to look for it."""
        self._look_for = look_for

    def check(self) -> None:
        """Refuse to ask a database that is away.

        Raises:
            Away: it is, and has not been found again.
        """
        if self._closed:
            raise Away

    def failed(self, error: DBAPIError) -> None:
        """The database could not be used, however often that was tried."""
        if isinstance(error, Away):
            return
        with self._lock:
            self._closed = self._look_for is not None
            changed = self._set(cause_of(error), str(error.orig))
        if self._look_for is not None:
            self._look_for()
        self._tell(changed)

    def suspect(self, cause: DatabaseCause, why: str) -> None:
        """Something is the matter with it, though it may yet do what it was asked."""
        with self._lock:
            changed = not self._closed and self._set(cause, why)
        self._tell(changed)

    def took(self, seconds: float, *, slow: bool) -> None:
        """A transaction waited so long for it, which may be too long."""
        self._slow = slow
        if slow:
            self.suspect(DatabaseCause.SLOW, f"a transaction waited {seconds:.1f} s for it")

    def found(self) -> None:
        """It could be written to: it may be asked again."""
        self._closed = False

    def works(self) -> None:
        """It has done all that it was asked."""
        if self.trouble is None or self._closed or self._slow:
            return
        with self._lock:
            seconds = time.monotonic() - self._began
            self.trouble = None
            self._said.clear()
        log.warning("the database can be used again, after %.1f s", seconds)
        self._tell(changed=True)

    def refusal(self, error: DBAPIError) -> DatabaseUnavailable:
        """What somebody is told whose request met that error."""
        trouble = self.trouble
        words = "does not answer" if trouble is None else trouble.words
        in_doubt = error.connection_invalidated
        done = (
            "it went while it worked on this, which may have been done: look before you ask again"
            if in_doubt
            else "nothing was done and what is held goes on; ask again in a while"
        )
        return DatabaseUnavailable(
            f"control's database {words}; {done}. `icebus doctor` says what its keeper can do",
            cause=None if trouble is None else trouble.cause.value,
            since=None if trouble is None else trouble.since.isoformat(timespec="seconds"),
            retry_after=RETRY_AFTER,
            in_doubt=in_doubt,
        )

    def _set(self, cause: DatabaseCause, why: str) -> bool:
        before = self.trouble
        if before is not None:
            if before.cause is cause:
                return False
            self.trouble = before.model_copy(update={"cause": cause})
        else:
            self._began = time.monotonic()
            self.trouble = DatabaseTrouble(since=now(), cause=cause)
        # It may be away for long, and for changing reasons: each is told once.
        if cause not in self._said:
            self._said.add(cause)
            log.error(
                "the database %s (%s); evaluations go on meanwhile; %s",
                self.trouble.words,
                " ".join(why.split()),
                self.trouble.remedy,
            )
        return True

    def _tell(self, changed: bool) -> None:
        for act in self._on_change if changed else ():
            act()
