"""Handlers for asyncio: the same classes, whose hooks may be coroutine functions there."""

from __future__ import annotations

from icebus.client._handlers import EventHandler, MeasuringHandler

AsyncEventHandler = EventHandler
AsyncMeasuringHandler = MeasuringHandler

__all__ = ["AsyncEventHandler", "AsyncMeasuringHandler"]
