"""Where iCEFARM maximises variance."""

from icebus.compat.icefarm._clients import VarMaxClient as VarMaxBaseClient
from icebus.compat.icefarm._evaluations import VarMaxEvaluation

__all__ = ["VarMaxBaseClient", "VarMaxEvaluation"]
