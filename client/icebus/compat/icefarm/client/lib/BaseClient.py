"""Where iCEFARM has what all its clients are."""

from icebus.compat.icefarm._clients import BaseClient

__all__ = ["BaseClient"]
