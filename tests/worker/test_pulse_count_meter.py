"""The one promise that matters most: a count belongs to the bitstream it is told for.

The firmware here is a model with a line of its own. Everything that may go wrong with the timing is
up to chance: how fast the board reads, when a transfer stalls until the watchdog fires, how much
is under way when the host takes back what it sent, and in which pieces the board's words arrive.
Only this is taken for granted: a board that waits reads what is under way within ``QUIET``.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from random import Random
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.errors import IcebusError
from icebus.worker.firmware import Measured, MeterCallbacks
from icebus.worker.firmware.pulse_count import PulseCountMeter, Report
from icebus.worker.hardware.port import Port
from icebus.worker.loop import Timer

SIZE = text.BITSTREAM_SIZE
WATCHDOG = text.WATCHDOG_SECONDS
WINDOW = 1.0

Run = tuple[int, int]
"""A run of bytes: their value and how many."""


class Clock:
    """Virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._due, (self.now + seconds, next(self._order), timer))
        return timer

    def step(self) -> bool:
        """Run what is next; False when nothing will ever happen."""
        while self._due:
            self.now, _, timer = heapq.heappop(self._due)
            if timer.callback is not None:
                timer.callback()
                return True
        return False


class Line:
    """The way from host to board: what the host holds, and what can't be taken back any more."""

    def __init__(self, on_way: int) -> None:
        self.host: list[Run] = []
        self.way: list[Run] = []
        self._on_way = on_way

    def feed(self) -> None:
        """Let the host's bytes move on as far as there is room."""
        room = self._on_way - sum(count for _, count in self.way)
        self.way += take(self.host, max(0, room))

    def take(self, count: int) -> list[Run]:
        self.feed()
        got = take(self.way, count)
        self.feed()
        return got


def take(runs: list[Run], count: int) -> list[Run]:
    got: list[Run] = []
    while runs and count > 0:
        value, there = runs[0]
        part = min(there, count)
        got.append((value, part))
        count -= part
        if part == there:
            runs.pop(0)
        else:
            runs[0] = (value, there - part)
    return got


class FakePort:
    """What the meter knows of a port."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @property
    def sending(self) -> bool:
        return bool(self._line.host)

    def send(self, data: bytes) -> None:
        assert not self.sending
        self._line.host = [(data[0], len(data))]

    def discard(self) -> None:
        self._line.host = []


class Firmware:
    """The board: reads when it is let, and reports which bytes it measured."""

    def __init__(self, clock: Clock, line: Line, chance: Random) -> None:
        self._clock = clock
        self._line = line
        self._chance = chance
        self.said = b""
        self._got: list[Run] | None = None
        self._measuring = False
        self._watchdog = Timer(lambda: None)
        self._tick()

    def _say(self, *lines: str) -> None:
        self.said += "".join(line + text.EOL for line in lines).encode()

    def _tick(self) -> None:
        self._read()
        waits = self._got is None
        pace = self._chance.choice([0.01, 0.1] if waits else [0.01, 0.02, 0.3, 2.5])
        self._clock.after(pace, self._tick)

    def _read(self) -> None:
        if self._measuring:
            return
        have = sum(count for _, count in self._got or [])
        portion = self._chance.choice([1, 512, 20_000, SIZE, SIZE])
        new = self._line.take(min(portion, SIZE - have))
        if not new:
            return
        if self._got is None:
            self._got = []
            self._say(text.STARTED, text.RECEIVING)
            self._watchdog = self._clock.after(WATCHDOG, self._bark)
        self._got += new
        if sum(count for _, count in self._got) == SIZE:
            self._watchdog.cancel()
            self._measuring = True
            self._say(text.RECEIVED.format(us=1), text.FLASHING)
            self._clock.after(WINDOW, self._report)

    def _bark(self) -> None:
        received = sum(count for _, count in self._got or [])
        self._got = None
        self._say(text.WATCHDOG.format(received=received, size=SIZE), text.WAITING)
        self._clock.after(0.1, self._read)

    def _report(self) -> None:
        values = {value for value, _ in self._got or []}
        self._got, self._measuring = None, False
        pulses = values.pop() if len(values) == 1 else 999_999
        self._say(text.FLASH_TIMES_PREFIX, text.PULSES.format(pulses=pulses), text.IDLE)
        self._say(text.CONNECTED, text.WAITING)


class Host:
    """A meter with work, and what came of it."""

    def __init__(self, clock: Clock, line: Line, work: list[int]) -> None:
        self.outcomes: list[tuple[int, Measured[Report] | IcebusError]] = []
        self.silences: list[str] = []
        self._work = work
        self._current: int | None = None
        port = cast(Port, FakePort(line))
        self.measuring: list[int | None] = []
        self.meter = PulseCountMeter(
            MeterCallbacks(
                port=lambda: port,
                after=clock.after,
                on_measuring=lambda key: self.measuring.append(int(key)),
                on_end=self._on_end,
                on_wants_more=self.begin,
                on_silence=self.silences.append,
            )
        )

    def begin(self) -> None:
        if self._work and self.meter.idle:
            self._current = self._work.pop(0)
            self.meter.measure(str(self._current), bytes([self._current]) * SIZE)

    def _on_end(self, key: str, how: Measured[Report] | IcebusError) -> None:
        assert self._current == int(key), "an end of nothing"
        self.outcomes.append((self._current, how))
        self._current = None


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([1, 100, 4096, 18_000]))
def test_given_any_timing_then_every_count_is_that_of_its_own_bitstream(
    seed: int, on_way: int
) -> None:
    chance = Random(seed)
    clock, line = Clock(), Line(on_way)
    board = Firmware(clock, line, chance)
    host = Host(clock, line, [1, 2, 3])
    host.begin()
    while not host.silences and len(host.outcomes) < 3:
        clock.step()
        if board.said:
            words, board.said = board.said, b""
            cut = chance.randrange(len(words))
            host.meter.receive(words[:cut])
            host.meter.receive(words[cut:])
        assert clock.now < 1000, "neither ended nor noticed"
    for value, how in host.outcomes:
        if isinstance(how, Measured):
            assert how.report.pulses == value, "the count of another bitstream"
    assert [value for value, _ in host.outcomes] == [1, 2, 3][: len(host.outcomes)]
    measured = [value for value, how in host.outcomes if isinstance(how, Measured)]
    assert {*measured} <= {*host.measuring}


TALK = st.sampled_from(
    [
        text.WAITING,
        text.STARTED,
        text.RECEIVED.format(us=1),
        text.WATCHDOG.format(received=5, size=SIZE),
        text.PULSES.format(pulses=5),
        text.VIRTUAL_UNSUPPORTED + "BRAM",
        text.IDLE,
        "garbage",
    ]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TALK, st.booleans()), max_size=30))
def test_given_a_board_that_says_anything_at_all_then_each_bitstream_ends_once_or_it_is_noticed(
    talk: list[tuple[str, bool]],
) -> None:
    clock, line = Clock(), Line(4096)
    host = Host(clock, line, [1, 2, 3])
    host.begin()
    for said, takes in talk:
        if takes:
            line.host = []
        host.meter.receive(f"{said}\r\n".encode())
        assert host.meter.idle or clock._due, "nothing would ever wake it"
    # From here on it is silent; its host must notice, whatever it was in the middle of.
    while clock.step() and not host.silences:
        pass
    assert len(host.outcomes) == 3 or host.silences
    assert len(host.outcomes) == len({value for value, _ in host.outcomes})


def test_given_a_bitstream_of_another_size_then_it_is_never_sent() -> None:
    clock, line = Clock(), Line(1)
    host = Host(clock, line, [])
    for wrong in (0, SIZE - 1, SIZE + 100):
        with pytest.raises(RuntimeError):
            host.meter.measure("1", bytes(wrong))
    assert line.host == []
    host.meter.measure("1", bytes(SIZE))
    with pytest.raises(RuntimeError):
        host.meter.measure("1", bytes(SIZE))
