"""Where older versions of iCEFARM have evaluations."""

from icebus.compat.icefarm._evaluations import Evaluation

__all__ = ["Evaluation"]
