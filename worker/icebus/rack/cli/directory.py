"""Where a rack's boards appear, and which serials they show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from platformdirs import user_state_path

from icebus.rack.identity import rack_id
from icebus.rack.layout import SerialOf, of_rack, seeded

Directory = Annotated[
    Path,
    typer.Option(
        "--directory",
        "-d",
        envvar="ICEBUS_RACK_DIRECTORY",
        file_okay=False,
        show_default="in the user's state directory",
        help="Where the boards appear, one folder per USB port.",
    ),
]
DIRECTORY = user_state_path("icebus") / "rack"


def serials_of(directory: Path, seed: int | None) -> SerialOf:
    """The serials that boards get: the rack's own, or those of a seed."""
    return of_rack(rack_id(directory)) if seed is None else seeded(seed)
