"""Measuring files: a bounded, journalled queue in which each file has exactly one outcome.

One engine for every kind that measures. A kind says what its firmware is sent and what that
answers; :class:`Measuring` is among the public names of :mod:`icebus.worker.states`.
"""

from icebus.worker.states.measuring._state import Measuring

__all__ = ["Measuring"]
