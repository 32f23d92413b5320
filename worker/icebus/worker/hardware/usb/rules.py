"""What a worker was told of USB ports and of boards by their serials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from icebus.schemas.boards.firmware import Chip


@dataclass(frozen=True)
class NamedBoard:
    """What was said of a port, or of a serial.

    Attributes:
        port: USB port path; None where a serial is named.
        serial: USB serial; None where a port is named.
        chip: of the board, where it does not say itself.
        owned: whether it is a board of this worker whatever it shows on USB.
        labels: of the board.
    """

    port: str | None = None
    serial: str | None = None
    chip: Chip | None = None
    owned: bool = False
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class UsbRules:
    """Which USB devices a worker may take for boards, and what it was told of them.

    Attributes:
        only: ports (with all that is behind them) and serials; empty for all.
        exclude: likewise, those that are left alone.
        boards: what was said of single ones. Of a serial goes before of a port.
    """

    only: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()
    boards: tuple[NamedBoard, ...] = ()

    def allow(self, port: str, serial: str | None) -> bool:
        """Whether a device there may be taken."""
        if _names(self.exclude, port, serial):
            return False
        return not self.only or _names(self.only, port, serial)

    def owns(self, port: str, serial: str | None) -> bool:
        """Whether whatever is there is a board."""
        return any(named.owned for named in self._said_of(port, serial))

    def chip(self, port: str, serial: str | None) -> Chip | None:
        """The chip that a board there was said to have."""
        chips = [named.chip for named in self._said_of(port, serial) if named.chip is not None]
        return chips[-1] if chips else None

    def labels(self, port: str, serial: str | None) -> dict[str, str]:
        """The labels of a board there."""
        labels: dict[str, str] = {}
        for named in self._said_of(port, serial):
            labels.update(named.labels)
        return labels

    def _said_of(self, port: str, serial: str | None) -> list[NamedBoard]:
        by_port = [named for named in self.boards if named.port == port]
        return by_port + [n for n in self.boards if n.serial is not None and n.serial == serial]


def _names(names: frozenset[str], port: str, serial: str | None) -> bool:
    return serial in names or any(port == name or port.startswith(f"{name}.") for name in names)
