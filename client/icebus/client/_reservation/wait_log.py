"""Telling in the log, while somebody waits for a reservation's devices, what is waited for.

A program or notebook that has no handler for ``queued`` would otherwise stand still without a word.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from icebus.schemas.wording import counted

if TYPE_CHECKING:
    from icebus.bus import Bus
    from icebus.client._reservation.queue_place import Waiting

log = logging.getLogger(__name__)

FIRST = 5.0
"""Seconds of waiting that are worth no word: most boards are ready by then."""

AGAIN = 60.0
"""Seconds until it is told again, if it is something else by then."""


@contextmanager
def telling(bus: Bus, what: Callable[[], str]) -> Iterator[None]:
    """Log what is waited for if the block lasts, and what has become of that, once a minute.

    Args:
        bus: whose dispatcher does it.
        what: says it there; an empty text while nothing is waited for.
    """
    over = threading.Event()
    last = ""

    def tell() -> None:
        nonlocal last
        if over.is_set():
            return
        text = what()
        if text and text != last:
            last = text
            # It is nothing wrong, but less would be said by nobody who has not asked for it.
            log.warning("%s", text)
        bus.call_later(AGAIN, tell)

    bus.call_later(FIRST, tell)
    try:
        yield
    finally:
        over.set()


def waits_in_queue(place: Waiting | None) -> str:
    """What somebody waits for whose reservation has no devices yet."""
    if place is None:
        return ""
    before = counted(place.position - 1, "request")
    text = f"reservation {place.reservation} waits in the queue, {before} before it: {place.reason}"
    if place.estimate is None:
        return text
    return f"{text}; free at {place.estimate.astimezone():%H:%M} unless somebody extends"


def waits_for_ready(reservation: str, serials: Sequence[str]) -> str:
    """What somebody waits for whose devices are given, and not ready yet."""
    if not serials:
        return ""
    return (
        f"reservation {reservation} waits until {', '.join(serials)} "
        f"{'is' if len(serials) == 1 else 'are'} ready; `icebus devices` shows what each does"
    )
