"""Whether there is a dashboard to start here. Imports nothing that may be missing."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PAGE = Path(__file__).with_name("page")
"""Where `script/dashboard` puts what it builds."""

PACKAGES = ("starlette", "uvicorn", "websockets")

NOT_BUILT = "the dashboard's page is not built here: run script/dashboard"
NOT_INSTALLED = "the dashboard needs packages that are missing here: install `icebus[dashboard]`"


def is_built(directory: Path = PAGE) -> bool:
    """Whether the page was built."""
    return (directory / "index.html").is_file()


def missing_packages() -> list[str]:
    """Those that the server needs and that are not installed."""
    return [name for name in PACKAGES if find_spec(name) is None]


def obstacle() -> str | None:
    """Why there can be no dashboard here, and what to do about it; None if there can."""
    if missing_packages():
        return NOT_INSTALLED
    return None if is_built() else NOT_BUILT
