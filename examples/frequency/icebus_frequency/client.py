"""The client: the kind's name and the model of its results are all that it needs."""

from icebus.client import MeasuringClient, MeasuringHandler
from icebus_frequency.result import KIND, FrequencyResult


class FrequencyClient(MeasuringClient[FrequencyResult]):
    """Reserves boards and measures the frequencies of circuits on them."""

    kind = KIND
    result = FrequencyResult


class FrequencyHandler(MeasuringHandler[FrequencyResult]):
    """Hooks for reservations of kind ``frequency``."""
