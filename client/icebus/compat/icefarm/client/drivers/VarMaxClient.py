"""Where iCEFARM has the client that samples a voltage."""

from icebus.compat.icefarm._clients import VarMaxClient

__all__ = ["VarMaxClient"]
