"""Simulates FPGAs in processes of their own, so that the rack's one thread keeps its time.

The processes hang on the rack's loop by one socket each. An executor of the standard library would
do the same with three more threads, which cost the rack twice what its boards cost.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import select
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Final, Protocol

from icebus.rack import simulation
from icebus.rack.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from icebus.rack.firmware import Evaluation
    from icebus.rack.loop import Loop, Timer

_LOG = logging.getLogger(__name__)

_ATTEMPTS: Final = 2
"""An evaluation whose process dies is tried once more: it need not be what killed it."""

_RESTART_SECONDS: Final = 1.0
"""Before another try when a process dies before it is ready."""

_STOP_SECONDS: Final = 5.0


class Evaluator(Protocol):
    """Gives verdicts on bitstreams."""

    def start(self) -> None:
        """Get ready; :meth:`stop` ends it."""

    def submit(self, evaluation: Evaluation, seed: int, done: Callable[[Verdict], None]) -> None:
        """Evaluate; ``done`` is called on the loop's thread, and never before this returns."""

    def stop(self) -> None:
        """Drop what is under way and stop, within a bounded time."""


@dataclass(slots=True)
class _Job:
    evaluation: Evaluation
    seed: int
    done: Callable[[Verdict], None]
    attempts: int = 0


class _Process:
    """One process: first it gets ready, then it has one job at a time."""

    def __init__(self, count: simulation.CountFunction, limit: float) -> None:
        # A fresh interpreter: it inherits no PTY, no lock file and no thread of the rack.
        context = multiprocessing.get_context("spawn")
        self.connection, its_end = context.Pipe()
        memory = context.RawArray(ctypes.c_char, simulation.MEMORY_SIZE)
        self._shared = simulation.BitstreamMemory(memory)
        self.process = context.Process(
            target=simulation.serve, args=(its_end, memory, count, limit), daemon=True
        )
        self.process.start()
        its_end.close()
        self.ready = False
        self.job: _Job | None = None

    def send(self, job: _Job) -> None:
        self.job = job
        self.connection.send_bytes(self._shared.write(job.evaluation, job.seed))


class PoolEvaluator:
    """A pool of processes, warm from the start; one that dies is replaced.

    Args:
        loop: on whose thread all is called, and verdicts are delivered.
        processes: how many; by default one a core.
        count: what evaluates, importable by its name; by default the virtual FPGA.
        limit: seconds after which an evaluation is given up.
    """

    def __init__(
        self,
        loop: Loop,
        processes: int | None = None,
        count: simulation.CountFunction = simulation.count_on_fpga,
        limit: float = simulation.LIMIT_SECONDS,
    ) -> None:
        self._loop = loop
        self._size = processes or os.cpu_count() or 1
        self._count = count
        self._limit = limit
        self._processes: list[_Process] = []
        self._idle: list[_Process] = []
        self._queue: deque[_Job] = deque()
        self._restarts: list[Timer] = []
        self._stopped = False

    def start(self) -> None:
        """Start all processes; they load what they need meanwhile."""
        for _ in range(self._size):
            self._add_process()

    def submit(self, evaluation: Evaluation, seed: int, done: Callable[[Verdict], None]) -> None:
        """Evaluate; ``done`` gets the verdict on the loop's thread."""
        self._queue.append(_Job(evaluation, seed, done))
        self._dispatch()

    def stop(self) -> None:
        """Stop the processes, by force after a while; what they were at is dropped."""
        self._stopped = True
        self._queue.clear()
        for timer in self._restarts:
            timer.cancel()
        for process in self._processes:
            self._loop.unregister(process.connection.fileno())
            process.process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in self._processes:
            _end(process, deadline)
        self._processes.clear()
        self._idle.clear()

    def _add_process(self) -> None:
        process = _Process(self._count, self._limit)
        self._processes.append(process)
        self._loop.register(
            process.connection.fileno(), select.EPOLLIN, partial(self._answered, process)
        )

    def _dispatch(self) -> None:
        while self._queue and self._idle:
            # The one that was last at work: its caches are the warmest.
            process = self._idle.pop()
            job = self._queue.popleft()
            job.attempts += 1
            try:
                process.send(job)
            except OSError:
                self._loop.call_soon(partial(self._died, process))

    def _answered(self, process: _Process, _events: int) -> None:
        try:
            answer = process.connection.recv_bytes()
        except (EOFError, OSError):
            self._died(process)
            return
        job, process.job = process.job, None
        process.ready = True
        self._idle.append(process)
        self._dispatch()
        if job is not None:
            job.done(Verdict.from_bytes(answer))

    def _died(self, process: _Process) -> None:
        if self._stopped or process not in self._processes:
            return
        self._loop.unregister(process.connection.fileno())
        self._processes.remove(process)
        if process in self._idle:
            self._idle.remove(process)
        process.process.kill()
        _end(process, time.monotonic() + _STOP_SECONDS)
        _LOG.error("simulation process died (%s)", process.process.exitcode)
        job = process.job
        if process.ready:
            self._add_process()
        else:
            self._fail_queue()
            restart = self._loop.call_at(self._loop.now() + _RESTART_SECONDS, self._add_process)
            self._restarts = [t for t in self._restarts if not t.cancelled] + [restart]
        if job is None:
            return
        if job.attempts < _ATTEMPTS:
            self._queue.appendleft(job)
            self._dispatch()
        else:
            job.done(Verdict.unsupported("the simulation process died"))

    def _fail_queue(self) -> None:
        """Let nobody wait for a pool in which no process gets ready."""
        if any(process.ready for process in self._processes):
            return
        while self._queue:
            self._queue.popleft().done(Verdict.unsupported("no simulation process starts"))


def _end(process: _Process, deadline: float) -> None:
    """Reap a process that was told to end."""
    if not wait([process.process.sentinel], max(0.0, deadline - time.monotonic())):
        _LOG.error("simulation process %s did not stop", process.process.pid)
        process.process.kill()
    process.process.join(_STOP_SECONDS)
    process.connection.close()
