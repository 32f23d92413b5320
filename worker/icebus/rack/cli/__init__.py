"""``icebus-rack``: run virtual boards, and plug and unplug them."""

from icebus.rack.cli.program import app, main

__all__ = ["app", "main"]
