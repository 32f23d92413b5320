"""Drives our firmware through measurements: the exchange with the board on its port."""

from __future__ import annotations

import random
import time
from typing import Any

from icebus.worker.firmware._meter import Meter, MeterCallbacks
from icebus.worker.firmware.framed._effects import Began, Effect, Ended, FramedReport, Send, Silent
from icebus.worker.firmware.framed._exchange import Exchange
from icebus.worker.loop import Timer


class FramedMeter(Meter[FramedReport]):
    """Measures what is packed as the payload of ``MEASURE``, several queued on the board."""

    def __init__(self, callbacks: MeterCallbacks[FramedReport]) -> None:
        super().__init__(callbacks)
        self._exchange = Exchange(random.getrandbits(32))
        self._to_send = b""
        self._alarm: Timer | None = None
        self._alarm_due = 0.0
        self._successor: FramedMeter | None = None

    @property
    def wants_more(self) -> bool:
        """Whether the board has room for another, and not enough to do."""
        return self._exchange.wants_more

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return self._exchange.idle

    def measure(self, key: str, data: bytes) -> None:
        """Queue it on the board; ``data`` is a packed ``Measure``."""
        self._do(self._exchange.measure(time.monotonic(), key, data))

    def ask_status(self) -> None:
        """Have the board say that it is there: it is idle again when it has."""
        self._do(self._exchange.ask_status(time.monotonic()))

    def receive(self, data: bytes) -> None:
        """Take in what the board says."""
        self._do(self._exchange.receive(time.monotonic(), data))
        if self._exchange.wants_more:
            self._callbacks.on_wants_more()

    def abandon(self) -> None:
        """Have the board forget what it was given; ``on_end`` is not called."""
        farewell = self._exchange.abandon()
        self._to_send = b""
        if self._alarm is not None:
            self._alarm.cancel()
        port = self._callbacks.port()
        if port is None:
            return
        if port.sending:  # the board drops a frame that is cut off; who tests it asks again
            port.discard()
        elif farewell:
            port.send(farewell)

    @property
    def in_step(self) -> bool:
        """Frames can't get out of step."""
        return True

    def take_over(self, other: Meter[Any]) -> None:
        """Go on where ``other`` is, whose request may not have been answered yet."""
        if not isinstance(other, FramedMeter):
            raise TypeError(f"{type(other).__name__} speaks to other firmware")
        other._successor = self
        self._exchange, self._to_send = other._exchange, other._to_send
        self._set_alarm()

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(data):
                    self._send(data)
                case Began(key):
                    self._callbacks.on_measuring(key)
                case Ended(key, how):
                    self._callbacks.on_end(key, how)
                case Silent(how):
                    self._callbacks.on_silence(how)
                    return
        self._set_alarm()

    def _send(self, data: bytes) -> None:
        port = self._callbacks.port()
        if port is None:
            pass  # its end is about to be told
        elif port.sending:
            self._to_send += data
        else:
            port.send(data, self._on_sent)

    def _on_sent(self) -> None:
        heir = self._successor or self
        waiting, heir._to_send = heir._to_send, b""
        if waiting:
            heir._send(waiting)

    def _set_alarm(self) -> None:
        due = self._exchange.due
        if due is None:
            return  # one that rings finds nothing late
        if self._alarm is not None:
            if self._alarm.pending and self._alarm_due <= due:
                return
            self._alarm.cancel()
        self._alarm_due = due
        self._alarm = self._callbacks.after(max(0.0, due - time.monotonic()), self._on_alarm)

    def _on_alarm(self) -> None:
        self._do(self._exchange.tick(time.monotonic()))
