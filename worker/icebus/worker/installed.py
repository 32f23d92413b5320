"""What packages have brought to this worker: kinds of reservations, and firmware of boards."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from icebus.schemas.errors import InvalidRequest
from icebus.worker.firmware import Firmware, installed_firmware
from icebus.worker.states import Reservable, installed_kinds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Installed:
    """What this worker can be reserved for, and which firmware it knows, by name."""

    kinds: Mapping[str, type[Reservable]]
    firmware: Mapping[str, Firmware]

    @classmethod
    def load(cls, image_folders: Sequence[Path] | None = None) -> Installed:
        """All that is installed, but for kinds whose firmware is not: no board could serve them.

        Args:
            image_folders: where images of firmware are, if not where they are by themselves.
        """
        firmware = installed_firmware(image_folders)
        kinds: dict[str, type[Reservable]] = {}
        for name, kind in installed_kinds().items():
            if any(each in firmware for each in kind.firmware):
                kinds[name] = kind
            else:
                log.error(
                    "kind %s is left out: its firmware %s is not installed",
                    name,
                    " or ".join(kind.firmware),
                )
        return cls(kinds, firmware)

    def offering(self, kinds: Collection[str] | None) -> Installed:
        """The same with these kinds only; None for all.

        Raises:
            InvalidRequest: one of them is not installed.
        """
        if kinds is None:
            return self
        missing = sorted(set(kinds) - set(self.kinds))
        if missing:
            raise InvalidRequest(
                f"kind {missing[0]} is not installed here, but {', '.join(sorted(self.kinds))}; "
                "install what brings it, or leave it out of `kinds`"
            )
        return Installed({name: self.kinds[name] for name in sorted(kinds)}, self.firmware)

    def likely_firmware(self, last: str, kind: str | None) -> dict[str, Firmware]:
        """All firmware: what a board ran last, what ``kind`` takes, then what answers soonest.

        What is to be asked last stands behind them.
        """
        usable = self.kinds[kind].firmware if kind is not None and kind in self.kinds else ()

        def rank(firmware: Firmware) -> tuple[bool, bool, bool, float]:
            other = firmware.name not in usable
            return firmware.name != last, firmware.asked_last, other, firmware.answers_within

        return {each.name: each for each in sorted(self.firmware.values(), key=rank)}
