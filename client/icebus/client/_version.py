"""Which icebus this is."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """The version that is installed; nothing where only the sources lie."""
    try:
        return metadata.version("icebus")
    except metadata.PackageNotFoundError:
        return ""
