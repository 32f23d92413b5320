"""Shutting out those whose account, invitation, former password or certificate has ended.

And letting those publish again who were barred for a while.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from icebus.broker.access import Principal
from icebus.broker.directory import BrokerDirectory
from icebus.bus import Bus

log = logging.getLogger(__name__)


class Endings:
    """A part of the broker's service that minds the calendar."""

    def __init__(self, files: BrokerDirectory) -> None:
        self._files = files
        self._ends: dict[str, list[datetime]] = {}
        self._bars: dict[str, datetime] = {}
        self._shut_out_at = datetime.now(UTC)

    def start(self, bus: Bus, soon: Callable[[Callable[[], None]], bool]) -> None:
        """Begin."""

    def on_principals(self, principals: Mapping[str, Principal]) -> None:
        """Learn when whose account ends."""
        self._ends = {
            name: [*([each.ends] if each.ends else []), *(other.until for other in each.others)]
            for name, each in principals.items()
        }
        self._bars = {
            name: each.barred_until for name, each in principals.items() if each.barred_until
        }
        for name, ends in self._files.certificates.replaced_by_name().items():
            self._ends.setdefault(name, []).extend(ends)

    def tick(self) -> None:
        """Shut out who has ended since this was last done."""
        now = datetime.now(UTC)
        ended = [
            name
            for name, ends in self._ends.items()
            if any(self._shut_out_at < end <= now for end in ends)
        ]
        if ended:
            self._files.shut_out_ended()
            log.warning(
                "an account, an invitation, a former password or certificate ended, and is shut "
                "out: %s",
                ", ".join(sorted(ended)),
            )
        if barred := [
            name for name, until in self._bars.items() if self._shut_out_at < until <= now
        ]:
            if not ended:
                self._files.shut_out_ended()  # which writes anew who may publish
            log.info("may publish again: %s", ", ".join(sorted(barred)))
        self._shut_out_at = now

    def stop(self) -> None:
        """End."""
