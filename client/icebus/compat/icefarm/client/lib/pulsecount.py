"""Where iCEFARM counts pulses."""

from icebus.compat.icefarm._clients import PulseCountClient as PulseCountBaseClient
from icebus.compat.icefarm._evaluations import PulseCountEvaluation

__all__ = ["PulseCountBaseClient", "PulseCountEvaluation"]
