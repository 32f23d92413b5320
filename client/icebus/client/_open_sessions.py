"""Closes the sessions that a program has left open when it ends, as scripts and notebooks do.

Their threads would be stopped in the middle of something, which Python may answer with an abort,
and what they hold would be held until control takes them for dead.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
from typing import Protocol

log = logging.getLogger(__name__)


class Session(Protocol):
    """What is to be closed, by the thread that ends the program."""

    def close(self) -> None:
        """End it."""


_open: dict[int, Session] = {}


def opened(session: Session) -> None:
    """Remember a session until it is closed."""
    _open[id(session)] = session


def closed(session: Session) -> None:
    """Forget a session."""
    _open.pop(id(session), None)


def all_open() -> list[Session]:
    """The sessions of this program that are open."""
    return list(_open.values())


def close_all() -> None:
    """Close all clients of this program that are open, which releases the boards they hold.

    For notebooks, where the names of earlier clients may be taken by others by now. It is done for
    every program when it ends.
    """
    for session in all_open():
        try:
            session.close()
        except Exception as error:  # noqa: BLE001 # the others are to be closed all the same
            log.warning("a client was not closed in order: %s", error)


@atexit.register
def _close_at_exit() -> None:
    # Who presses Ctrl-C meanwhile wants the program to end, not to hear of it.
    with contextlib.suppress(KeyboardInterrupt):
        close_all()
