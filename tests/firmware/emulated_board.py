"""An emulated board for tests: the image as it is built, and a host that speaks frames with it."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Final

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

ROOT: Final = Path(__file__).parents[2]
FIRMWARE: Final = ROOT / "worker" / "firmware"
EMULATOR: Final = ROOT / "worker" / "emulator"
INSTALLED: Final = ROOT / "build" / "emulator"
IMAGE: Final = ROOT / "build" / "firmware" / "icebus-pico-ice.uf2"

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
    for path, command in [
        (IMAGE, "script/firmware"),
        (INSTALLED / "boot_rom.json", "script/emulator"),
    ]:
        if not path.exists():
            pytest.skip(f"{path.relative_to(ROOT)} is missing; run {command}")
    sources = [path for path in FIRMWARE.rglob("*") if path.is_file()]
    if max(path.stat().st_mtime for path in sources) > IMAGE.stat().st_mtime:
        pytest.skip(f"{IMAGE.relative_to(ROOT)} is older than its sources; run script/firmware")


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
    port: int = 0

    def read_events(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.put(json.loads(line))
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

    def command(self, name: str, **how: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"command": name, **how}) + "\n")
        self.process.stdin.flush()
        self.wait_for("done", command=name)

    @contextmanager
    def opened(self) -> Iterator[Host]:
        """A host that has opened the port."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield Host(connection)


@dataclass
class Host:
    """Sends requests and collects replies."""

    connection: socket.socket
    parser: FrameParser = field(default_factory=FrameParser)
    unread: list[Reply] = field(default_factory=list)
    sequence: int = 0

    def send(self, kind: int, payload: bytes = b"", sequence: int | None = None) -> int:
        """Send a request; its sequence."""
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        self.connection.sendall(Frame(kind, sequence, payload).pack())
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
        while self.connection.recv(65536):
            pass

    def _receive(self, end: float) -> None:
        self.connection.settimeout(max(end - time.monotonic(), 0.001))
        data = self.connection.recv(65536)
        assert data, "the board closed the port"
        for frame in self.parser.feed(data):
            kind = FrameType(frame.type)
            self.unread.append(Reply(kind, frame.sequence, REPLIES[kind](frame.payload)))


@contextmanager
def emulated_board() -> Iterator[EmulatedBoard]:
    """A board whose power has just come on, and that the host has found."""
    node = [str(INSTALLED / "node"), str(EMULATOR / "emulator.mjs")]
    options = ["--image", str(IMAGE), "--boot-rom", str(INSTALLED / "boot_rom.json")]
    helper = ["--", sys.executable, str(EMULATOR / "counts.py")]
    with subprocess.Popen(
        [*node, *options, *helper], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        board = EmulatedBoard(process)
        reader = Thread(target=board.read_events, daemon=True)
        reader.start()
        try:
            board.port = board.wait_for("listening")["port"]
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
