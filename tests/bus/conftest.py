"""Fixtures of the tests of the bus."""

from tests.connections import connect, eventually, inbox

__all__ = ["connect", "eventually", "inbox"]
