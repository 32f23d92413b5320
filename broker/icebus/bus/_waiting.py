"""Waiting for what another thread completes, until a deadline."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TypeVar

from icebus.bus._interruption import interruptible, is_interruptible
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import DeadlineExceeded

T = TypeVar("T")


def wait_for(future: Future[T], deadline: Deadline, who: str) -> T:
    """The future's result by the deadline. Not for use on the bus's dispatcher.

    Raises:
        DeadlineExceeded: it was not done in time; ``who`` says on whom it depends.
        Interrupted: whoever wanted this has given it up.
    """
    if is_interruptible() and not future.done():
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        with interruptible(done.set):
            done.wait(deadline.remaining)
    try:
        return future.result(timeout=deadline.remaining)
    except DeadlineExceeded:
        raise
    except TimeoutError:
        raise DeadlineExceeded(f"{who} did not answer in time") from None
