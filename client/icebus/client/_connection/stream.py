"""What comes from the farm as it comes, in the hands of whoever reads it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from icebus.bus import wait_on
from icebus.client._connection.connection import Connection

LOOK_EVERY = 0.5
"""Seconds between looks at whether more can come at all."""


class Stream(ABC):
    """An iterator over what comes; to be closed, or used as a context.

    Args:
        connection: of the client.

    Raises:
        ClientClosed: it is closed.
    """

    def __init__(self, connection: Connection) -> None:
        connection.check_open()
        self._connection = connection
        self._changed = threading.Condition()

    def __iter__(self) -> Self:
        """Itself."""
        return self

    @abstractmethod
    def close(self) -> None:
        """Read no more: what waits is told still."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _wait_for_more(self) -> None:
        """Wait until something may have come. Called with ``_changed`` held.

        Raises:
            ClientClosed: nothing comes any more.
            NotAuthorized: likewise, for the broker knows this user no longer.
        """
        self._connection.check_open()
        self._connection.check_not_refused()
        wait_on(self._changed, LOOK_EVERY)
