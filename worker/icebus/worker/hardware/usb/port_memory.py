"""Which board was seen at which port, on disk: so that a bootloader is known after a restart."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import Port
from icebus.schemas.ids import Serial
from icebus.schemas.programs.private_files import write_private
from icebus.worker.hardware.usb.boards import Known, KnownBoard

log = logging.getLogger(__name__)


class _Remembered(BaseModel):
    model_config = ConfigDict(extra="ignore")

    serial: Serial | None = None
    chip: Chip | None = None


class _MemoryFile(BaseModel):
    model_config = ConfigDict(extra="ignore")

    ports: dict[Port, _Remembered] = {}


class PortMemory:
    """Remembers boards in a file.

    Args:
        path: of the file; made when there is something to remember.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Known:
        """What was remembered; nothing where the file can't be read, for it is only a memory."""
        try:
            found = _MemoryFile.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            log.warning(
                "what is remembered of USB ports in %s can't be read: %s", self._path, error
            )
            return {}
        return {port: KnownBoard(each.serial, each.chip) for port, each in found.ports.items()}

    def save(self, known: Known) -> None:
        """Remember this instead; a failure is logged, and costs no more than the memory."""
        ports = {port: _Remembered(serial=b.serial, chip=b.chip) for port, b in known.items()}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_private(self._path, _MemoryFile(ports=ports).model_dump_json(indent=2) + "\n")
        except OSError as error:
            log.warning("USB ports can't be remembered in %s: %s", self._path, error)
