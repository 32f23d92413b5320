"""Where iCEFARM has the clients that one uses."""

from icebus.compat.icefarm._clients import PulseCountClient, VarMaxClient

__all__ = ["PulseCountClient", "VarMaxClient"]
