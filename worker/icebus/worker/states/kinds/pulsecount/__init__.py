"""Kind ``pulsecount``: how many pulses a circuit gives in the firmware's measuring window."""

from icebus.worker.states.kinds.pulsecount.state import PulseCount

__all__ = ["PulseCount"]
