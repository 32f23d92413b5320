"""A virtual iCE40UP5K: decodes bitstreams and counts the pulses their circuits give.

For circuits that follow the clock, counts are exact to the pulse; where they are not, they say so.
"""

from icebus.fpga.count import Count, count

__all__ = ["Count", "count"]
