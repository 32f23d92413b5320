"""What users wait for: one step of each in turn, however many one of them has waiting."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

Step = Callable[[], None]


@dataclass
class _Line:
    steps: deque[tuple[Step, int]] = field(default_factory=deque)
    size: int = 0


class Turns:
    """Steps of users, beside the steps of a thread of one's own.

    Whatever else that thread has to do goes on between any two of them, so nothing waits for more
    than one user's step, and no user for another's backlog.

    Args:
        post: has the thread run a step after those that it was given before.
    """

    def __init__(self, post: Callable[[Step], None]) -> None:
        self._post = post
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._order: deque[str] = deque()
        self._posted = False
        self._size = 0

    def put(self, user: str, step: Step, size: int = 0) -> None:
        """Run ``step`` when it is that user's turn; from any thread, in order for each user.

        Args:
            user: whose step it is.
            step: quick, or nobody else has a turn.
            size: bytes that it keeps until then.
        """
        with self._lock:
            line = self._lines.get(user)
            if line is None:
                line = self._lines[user] = _Line()
                self._order.append(user)
            line.steps.append((step, size))
            line.size += size
            self._size += size
            post = not self._posted
            self._posted = True
        if post:
            self._post(self._next)

    def waiting(self, user: str) -> tuple[int, int]:
        """How many steps of that user wait, and how many bytes they keep."""
        line = self._lines.get(user)
        return (0, 0) if line is None else (len(line.steps), line.size)

    def all_waiting(self) -> tuple[int, int]:
        """How many bytes all that waits keeps, and of how many users it is."""
        return self._size, len(self._order)

    @property
    def idle(self) -> bool:
        """Whether nobody's step waits."""
        return not self._posted

    def _next(self) -> None:
        with self._lock:
            user = self._order.popleft()
            line = self._lines[user]
            step, size = line.steps.popleft()
            line.size -= size
            self._size -= size
            if line.steps:
                self._order.append(user)
            else:
                del self._lines[user]
            more = bool(self._order)
            if not more:
                self._posted = False
        if more:
            self._post(self._next)
        step()
