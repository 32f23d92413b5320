"""Where iCEFARM has evaluations and their results."""

from icebus.compat.icefarm._clients import BaseClient as BatchClient
from icebus.compat.icefarm._evaluations import Evaluation, EvaluationFailed, Result

__all__ = ["BatchClient", "Evaluation", "EvaluationFailed", "Result"]
