"""Where iCEFARM has what counting on several pins is made of."""

from icebus.compat.icefarm._clients import MultiPulseCountClient as MultiPulseCountBaseClient
from icebus.compat.icefarm._evaluations import PulseCountEvaluation

__all__ = ["MultiPulseCountBaseClient", "PulseCountEvaluation"]
