"""Where iCEFARM has the client that counts pulses."""

from icebus.compat.icefarm._clients import PulseCountClient

__all__ = ["PulseCountClient"]
