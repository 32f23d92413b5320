"""Where iCEFARM has what its clients of bitstreams have in common."""

from icebus.compat.icefarm._clients import BaseClient as BitstreamBaseClient
from icebus.compat.icefarm._evaluations import Evaluation as BitstreamEvaluation

__all__ = ["BitstreamBaseClient", "BitstreamEvaluation"]
