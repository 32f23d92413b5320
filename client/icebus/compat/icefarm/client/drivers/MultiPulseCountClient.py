"""Where iCEFARM has the client that counts on several pins."""

from icebus.compat.icefarm._clients import MultiPulseCountClient

__all__ = ["MultiPulseCountClient"]
