"""An emulated board for tests: the image as it is built, and a host that speaks frames with it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Final, Protocol

import pytest

from icebus.schemas.boards.framed import Frame, FrameParser, FrameType
from icebus.schemas.boards.framed_replies import (
    Banner,
    BoardStatus,
    Phase,
    Rejected,
    Result,
    Samples,
)
from icebus.schemas.boards.framed_requests import CountPulses, Measure, Measurement
from icebus.schemas.boards.uf2 import decode

ROOT: Final = Path(__file__).parents[2]
FIRMWARE: Final = ROOT / "worker" / "firmware"
EMULATOR: Final = ROOT / "worker" / "icebus" / "rack" / "emulator"
INSTALLED: Final = ROOT / "build" / "emulator"
IMAGE: Final = ROOT / "build" / "firmware" / "icebus-pico-ice.uf2"

FLASH_ID: Final = "E6616407E308B9E2"

DEADLINE: Final = 60.0
"""Seconds for anything at all: the emulated board runs several times slower than a real one."""

REPLIES: Final = {
    FrameType.BANNER: Banner.parse,
    FrameType.ACCEPTED: BoardStatus.parse,
    FrameType.BOARD_STATUS: BoardStatus.parse,
    FrameType.ABORTED: BoardStatus.parse,
    FrameType.REJECTED: Rejected.parse,
    FrameType.RESULT: Result.parse,
    FrameType.SAMPLES: Samples.parse,
}


def skip_unless_built() -> None:
    """Leave the test out where image or emulator are missing; CI has built them, and fails."""
    for path, command in [
        (IMAGE, "script/firmware"),
        (INSTALLED / "boot_rom.json", "script/emulator"),
    ]:
        if not path.exists():
            _leave_out(f"{path.relative_to(ROOT)} is missing; run {command}")
    sources = [path for path in FIRMWARE.rglob("*") if path.is_file()]
    if max(path.stat().st_mtime for path in sources) > IMAGE.stat().st_mtime:
        _leave_out(f"{IMAGE.relative_to(ROOT)} is older than its sources; run script/firmware")


def _leave_out(why: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@dataclass(frozen=True)
class Reply:
    type: FrameType
    sequence: int
    payload: Any


@dataclass
class EmulatedBoard:
    """The process that emulates it, and what it says."""

    process: subprocess.Popen[str]
    events: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    said: queue.Queue[bytes] = field(default_factory=queue.Queue)
    closed: bool = True

    def read_events(self) -> None:
        """Sort what the emulator says; a port that is gone or closed ends with no bytes."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "data":
                self.said.put(b64decode(event["data"]))
                continue
            if event["event"] in ("restarting", "bootloader", "closed"):
                self.closed = True
                self.said.put(b"")
            self.events.put(event)
        self.said.put(b"")
        self.events.put({"event": "ended"})

    def wait_for(self, event: str, **fields: Any) -> dict[str, Any]:
        """The next event of that name and with those fields; others before it are dropped."""
        end = time.monotonic() + DEADLINE
        while True:
            came = self.events.get(timeout=max(end - time.monotonic(), 0.001))
            if came["event"] == event and all(came.get(k) == v for k, v in fields.items()):
                return came
            if came["event"] == "ended":
                pytest.fail("the emulator ended")

    def send(self, command: str, **how: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"command": command, **how}) + "\n")
        self.process.stdin.flush()

    def command(self, name: str, **how: Any) -> None:
        self.send(name, **how)
        self.wait_for("done", command=name)

    def set_baud(self, rate: int) -> None:
        self.send("baud", rate=rate)

    @contextmanager
    def opened(self) -> Iterator[Host]:
        """A host that has opened the port."""
        while not self.said.empty():
            self.said.get()
        self.closed = False
        self.send("open")
        try:
            yield Host(Port(self))
        finally:
            if not self.closed:  # by a board that is gone
                self.send("close")
            while self.said.get(timeout=DEADLINE):
                pass


class OpenPort(Protocol):
    """A board's serial port, open."""

    def write(self, data: bytes | bytearray) -> None: ...

    def read(self, timeout: float = DEADLINE) -> bytes:
        """What has come; nothing when the port is gone."""


@dataclass(frozen=True)
class Port:
    """The port as the emulator itself offers it."""

    board: EmulatedBoard

    def write(self, data: bytes | bytearray) -> None:
        self.board.send("write", data=b64encode(data).decode())

    def read(self, timeout: float = DEADLINE) -> bytes:
        data = self.board.said.get(timeout=timeout)
        if not data:
            self.board.said.put(data)  # it stays so
        return data


@dataclass
class Host:
    """Sends requests and collects replies."""

    port: OpenPort
    parser: FrameParser = field(default_factory=FrameParser)
    unread: list[Reply] = field(default_factory=list)
    sequence: int = 0

    def send(self, kind: int, payload: bytes = b"", sequence: int | None = None) -> int:
        """Send a request; its sequence."""
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        self.port.write(Frame(kind, sequence, payload).pack())
        return sequence

    def measure(self, bitstream: bytes, measurement: Measurement | None = None) -> int:
        wanted = measurement or CountPulses(window_us=20_000)
        return self.send(FrameType.MEASURE, Measure.of(bitstream, wanted).pack())

    def reply(self, sequence: int, *types: FrameType) -> Reply:
        """The next reply to a request, of those types if any are given; others are kept."""
        end = time.monotonic() + DEADLINE
        while True:
            for reply in self.unread:
                if reply.sequence == sequence and (not types or reply.type in types):
                    self.unread.remove(reply)
                    return reply
            self._receive(end)

    def result(self, sequence: int) -> Result:
        reply = self.reply(sequence, FrameType.RESULT, FrameType.REJECTED)
        assert reply.type is FrameType.RESULT, reply
        assert isinstance(reply.payload, Result)
        return reply.payload

    def count(self, bitstream: bytes, measurement: Measurement | None = None) -> Result:
        return self.result(self.measure(bitstream, measurement))

    def status(self) -> BoardStatus:
        reply = self.reply(self.send(FrameType.STATUS))
        assert isinstance(reply.payload, BoardStatus)
        return reply.payload

    def wait_until_measuring(self) -> None:
        while self.status().phase is not Phase.MEASURING:
            pass

    def banner(self) -> Banner:
        reply = self.reply(self.send(FrameType.HELLO))
        assert isinstance(reply.payload, Banner)
        return reply.payload

    def wait_until_closed(self) -> None:
        while self.port.read():
            pass

    def _receive(self, end: float) -> None:
        data = self.port.read(max(end - time.monotonic(), 0.001))
        assert data, "the board closed the port"
        for frame in self.parser.feed(data):
            kind = FrameType(frame.type)
            self.unread.append(Reply(kind, frame.sequence, REPLIES[kind](frame.payload)))


@contextmanager
def emulated_board() -> Iterator[EmulatedBoard]:
    """A board whose power has just come on, and that the host has found."""
    node = [str(INSTALLED / "node"), str(EMULATOR / "emulator.mjs")]
    options = ["--boot-rom", str(INSTALLED / "boot_rom.json")]
    helper = ["--", sys.executable, "-m", "icebus.rack.emulator.counts"]
    with subprocess.Popen(
        [*node, *options, *helper],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "ICEBUS_EMULATOR": str(INSTALLED)},
    ) as process:
        board = EmulatedBoard(process)
        reader = Thread(target=board.read_events, daemon=True)
        reader.start()
        try:
            flash = b64encode(decode(IMAGE.read_bytes()).payload).decode()
            board.send("start", flash=flash, id=FLASH_ID)
            board.wait_for("application")
            yield board
        finally:
            assert process.stdin is not None
            process.stdin.close()  # its helper ends with it
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            reader.join(DEADLINE)
