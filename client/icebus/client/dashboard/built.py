"""Whether there is a dashboard to start here. Imports nothing that may be missing."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from icebus.schemas.errors import ProgramMissing
from icebus.schemas.programs.installation import lacks

PAGE = Path(__file__).with_name("page")
"""Where `script/dashboard` puts what it builds."""

PACKAGES = ("starlette", "uvicorn", "websockets")

NOT_BUILT = "the dashboard's page is not built here: run script/dashboard"


def is_built(directory: Path = PAGE) -> bool:
    """Whether the page was built."""
    return (directory / "index.html").is_file()


def check_packages() -> None:
    """Find out whether the packages that the server needs are installed.

    Raises:
        ProgramMissing: one is not; the message has the remedy.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise lacks("dashboard", "the dashboard", *missing)


def check_built(directory: Path = PAGE) -> None:
    """Find out whether there is a page to serve.

    Raises:
        ProgramMissing: there is none; the message has the remedy.
    """
    if not is_built(directory):
        raise ProgramMissing(NOT_BUILT)
