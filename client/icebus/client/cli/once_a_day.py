"""What people are told once a day, however many commands they give."""

from __future__ import annotations

import time

from icebus.client._profiles.farm_directory import state_directory
from icebus.schemas.ids import to_id
from icebus.schemas.programs.private_files import make_private_folder

DAY = 86_400.0


def first_today(what: str) -> bool:
    """Whether that was not told within a day; it is taken for told then."""
    file = state_directory() / "told" / to_id(what)
    try:
        if time.time() - file.stat().st_mtime < DAY:
            return False
    except OSError:
        pass
    try:
        make_private_folder(file.parent)
        file.touch(mode=0o600)
    except OSError:
        return True  # rather too often than never
    return True
