"""Waiting for what another thread completes, until a deadline."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TypeVar

from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import DeadlineExceeded

T = TypeVar("T")


def wait_for(future: Future[T], deadline: Deadline, who: str) -> T:
    """The future's result by the deadline. Not for use on the bus's dispatcher.

    Raises:
        DeadlineExceeded: it was not done in time; ``who`` says on whom it depends.
    """
    try:
        return future.result(timeout=deadline.remaining)
    except DeadlineExceeded:
        raise
    except TimeoutError:
        raise DeadlineExceeded(f"{who} did not answer in time") from None
