"""Telling everybody whom to trust to be this broker, on ``broker/authority``.

So that the farm's authority can be replaced, and nobody is cut off who hears of it in time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from icebus.broker.access import Principal
from icebus.broker.directory import BrokerDirectory
from icebus.bus import Bus
from icebus.schemas.components import TrustedAuthorities
from icebus.schemas.topics import AUTHORITY


class AuthorityTold:
    """A part of the broker's service that keeps what is told of the authority true."""

    def __init__(self, files: BrokerDirectory) -> None:
        self._files = files
        self._bus: Bus | None = None

    def start(self, bus: Bus, soon: Callable[[Callable[[], None]], bool]) -> None:
        """Begin."""
        self._bus = bus

    def on_principals(self, principals: Mapping[str, Principal]) -> None:
        """Tell who vouches: whoever replaces an authority changes the list of who is known."""
        if self._bus is None:
            return
        trusted = self._files.trusted
        if trusted is None:
            self._bus.clear(AUTHORITY())
        else:
            self._bus.publish(AUTHORITY(), TrustedAuthorities(certificates=trusted))

    def tick(self) -> None:
        """Nothing falls due."""

    def stop(self) -> None:
        """End. What was told stays."""
