"""What runs in the processes of the pool: evaluations on the virtual FPGA."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import multiprocessing.connection
import os
import signal
import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from icebus.rack.firmware.base import Evaluation
from icebus.rack.verdict import Verdict
from icebus.schemas.errors import BitstreamUnsupported, DecoderUnavailable
from icebus.schemas.programs.installation import not_importable

if TYPE_CHECKING:
    import ctypes
    from multiprocessing.connection import Connection
    from types import FrameType

    from icebus.fpga import SimulationResult

LIMIT_SECONDS: Final = 60.0
"""After which an evaluation is given up; far more than any circuit is expected to take."""

MEMORY_SIZE: Final = 104_096
"""Bytes of the longest bitstream that a firmware takes: a full one, filled up to whole words."""

_REQUEST: Final = struct.Struct("<QQI")
"""Cycles, seed, bytes of the bitstream; the pins follow, one byte each."""

_HARD_LIMIT_FACTOR: Final = 1.5
"""The process itself ends when code that Python can't interrupt takes that much more CPU."""

_GARBAGE: Final = 100_000
"""New objects before Python looks for garbage: an analysis makes thousands, and keeps them."""


CountFunction = Callable[[bytes, int, int, int], "SimulationResult"]
"""``(bitstream, cycles, seed, pin) -> SimulationResult``."""


def count_on_fpga(bitstream: bytes, cycles: int, seed: int, pin: int) -> SimulationResult:
    """Count on the virtual FPGA; imported here, so that the rack runs without what it needs.

    Raises:
        DecoderUnavailable: what the virtual FPGA needs isn't installed.
    """
    try:
        from icebus.fpga import simulate
    except ImportError as error:
        raise DecoderUnavailable(
            not_importable(error, "counting on the virtual FPGA", "virtual").message
        ) from error
    return simulate(bitstream, cycles=cycles, seed=seed, pin=pin)


class BitstreamMemory:
    """Memory that the rack and a process share, for one bitstream at a time.

    A pipe would carry it in 64 kB pieces, with a copy on either side for each of them.
    """

    def __init__(self, memory: ctypes.Array[ctypes.c_char]) -> None:
        self._memory = memoryview(memory).cast("B")

    def write(self, evaluation: Evaluation, seed: int) -> bytes:
        """Write a bitstream; gives the request to be sent to the process."""
        size = len(evaluation.bitstream)
        self._memory[:size] = evaluation.bitstream
        return _REQUEST.pack(evaluation.cycles, seed, size) + bytes(evaluation.pins)

    def read(self, request: bytes) -> tuple[Evaluation, int]:
        """Read the evaluation of a request, and the seed."""
        cycles, seed, size = _REQUEST.unpack_from(request)
        pins = tuple(request[_REQUEST.size :])
        return Evaluation(bytes(self._memory[:size]), cycles, pins), seed


def serve(
    connection: Connection, memory: ctypes.Array[ctypes.c_char], count: CountFunction, limit: float
) -> None:
    """The life of a process: say that it is ready, then answer one request after the other."""
    _prepare(count)
    shared = BitstreamMemory(memory)
    try:
        connection.send_bytes(b"")
        while True:
            evaluation, seed = shared.read(connection.recv_bytes())
            connection.send_bytes(evaluate(count, limit, evaluation, seed).to_bytes())
    except (EOFError, OSError):
        return  # the rack has gone


def _prepare(count: CountFunction) -> None:
    """Die with the rack, leave Ctrl-C to it, load early."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel
        threading.Thread(
            target=_die_with, args=(sentinel,), name="parent-watch", daemon=True
        ).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _too_long)
    if count is count_on_fpga:
        with contextlib.suppress(Exception):  # what is wrong will be said when it matters
            from icebus.fpga import prepare

            prepare()
    gc.freeze()
    gc.set_threshold(_GARBAGE)


def evaluate(count: CountFunction, limit: float, evaluation: Evaluation, seed: int) -> Verdict:
    """The verdict on one bitstream; never raises, as every request has an answer."""
    signal.setitimer(signal.ITIMER_REAL, limit)
    signal.setitimer(signal.ITIMER_PROF, limit * _HARD_LIMIT_FACTOR)  # unhandled, it kills
    try:
        return _count(count, evaluation, seed)
    except TimeoutError:
        return Verdict.unsupported(f"simulation took longer than {limit:g} s")
    except Exception as error:  # noqa: BLE001 (a count that isn't known is never invented)
        return Verdict.unsupported(f"simulation failed: {error!r}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def _count(count: CountFunction, evaluation: Evaluation, seed: int) -> Verdict:
    """All pins' counts. What is said of one of several pins names it."""
    pulses: list[int] = []
    notes: list[str] = []
    exact, delays = True, False
    for pin in evaluation.pins:
        which = f"pin {pin}: " if len(evaluation.pins) > 1 else ""
        try:
            result = count(evaluation.bitstream, evaluation.cycles, seed, pin)
        except BitstreamUnsupported as error:
            return Verdict.unsupported(which + error.message)
        except DecoderUnavailable as error:
            return Verdict.unavailable(error.message)
        if not result.cdone:
            return Verdict.refused()
        pulses.append(result.pulses)
        exact, delays = exact and result.exact, delays or result.delays
        if result.note:
            named = result.note.startswith(f"pin {pin} ")
            notes.append(result.note if named else which + result.note)
    return Verdict.of(*pulses, exact=exact, note="; ".join(notes), delays=delays)


def _too_long(_signal: int, _frame: FrameType | None) -> Any:
    raise TimeoutError


def _die_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
