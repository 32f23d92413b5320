"""The firmware named ``icebus``: speaks frames, as docs/firmware.md has them.

It keeps to what worker/firmware/source does, file by file: ``receiving`` is receive.c, ``queue``
queue.c, ``measurements`` measurement.c, ``limits`` limits.h and the boards' headers.
"""

from icebus.rack.firmware.framed.firmware import Framed

__all__ = ["Framed"]
