"""Simulates FPGAs in processes of their own, so that the rack's one thread keeps its time."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Final, Protocol, cast

from icebus.rack import simulation
from icebus.rack.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess

    from icebus.rack.loop import Loop

_LOG = logging.getLogger(__name__)

_ATTEMPTS: Final = 2
"""An evaluation whose process dies is tried once more: another one may have killed it."""

_STOP_SECONDS: Final = 5.0


class Evaluator(Protocol):
    """Gives verdicts on bitstreams."""

    def start(self) -> None:
        """Get ready; :meth:`stop` ends it."""

    def submit(
        self, bitstream: bytes, cycles: int, seed: int, done: Callable[[Verdict], None]
    ) -> None:
        """Evaluate; ``done`` is called on the loop's thread, and never before this returns."""

    def stop(self) -> None:
        """Drop what is under way and stop, within a bounded time."""


@dataclass(slots=True)
class _Job:
    bitstream: bytes
    cycles: int
    seed: int
    done: Callable[[Verdict], None]
    attempts: int = 0


class PoolEvaluator:
    """A pool of processes that is warm from the start and is rebuilt when it breaks.

    Args:
        loop: where verdicts are delivered, and on whose thread everything here is called.
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
        self._processes = processes or os.cpu_count() or 1
        self._count = count
        self._limit = limit
        self._executor: ProcessPoolExecutor | None = None
        self._others: set[BaseProcess] = set()

    def start(self) -> None:
        """Start all processes of the pool; they import what they need meanwhile."""
        executor = ProcessPoolExecutor(
            self._processes,
            # A fresh interpreter: it inherits no PTY, no lock file and no thread of the rack.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=simulation.prepare_process,
            initargs=(self._count,),
        )
        self._others = set(multiprocessing.active_children())
        for _ in range(self._processes):  # each call finds no idle process and starts one
            executor.submit(simulation.ready)
        self._executor = executor

    def submit(
        self, bitstream: bytes, cycles: int, seed: int, done: Callable[[Verdict], None]
    ) -> None:
        """Evaluate; ``done`` gets the verdict on the loop's thread."""
        self._submit(_Job(bitstream, cycles, seed, done))

    def stop(self) -> None:
        """Stop the processes, by force after a while."""
        executor, self._executor = self._executor, None
        if executor is not None:
            self._shut_down(executor)

    def _submit(self, job: _Job) -> None:
        executor = self._executor
        if executor is None:
            self._loop.call_soon(partial(job.done, Verdict.unsupported("the rack is stopping")))
            return
        job.attempts += 1
        try:
            future = executor.submit(
                simulation.evaluate, self._count, self._limit, job.bitstream, job.cycles, job.seed
            )
        except BrokenProcessPool:
            self._loop.call_soon(partial(self._broken, executor, job))
            return
        future.add_done_callback(
            lambda future: self._loop.call_threadsafe(
                partial(self._finished, executor, job, future)
            )
        )

    def _finished(self, executor: ProcessPoolExecutor, job: _Job, future: Future[Verdict]) -> None:
        try:
            verdict = future.result(timeout=0)
        except BrokenProcessPool:
            self._broken(executor, job)
            return
        except CancelledError:
            verdict = Verdict.unsupported("the rack is stopping")
        except Exception as error:  # noqa: BLE001 (whatever could not be sent to or from a process)
            _LOG.exception("an evaluation failed")
            verdict = Verdict.unsupported(f"simulation failed: {error!r}")
        job.done(verdict)

    def _broken(self, executor: ProcessPoolExecutor, job: _Job) -> None:
        if self._executor is executor:
            _LOG.error("a simulation process died; starting new ones")
            self._executor = None
            self._shut_down(executor)
            self.start()
        if job.attempts < _ATTEMPTS:
            self._submit(job)
        else:
            job.done(Verdict.unsupported("the simulation process died"))

    def _shut_down(self, executor: ProcessPoolExecutor) -> None:
        # Only look at the processes here: the executor's own thread is the one that reaps them.
        children = set(multiprocessing.active_children()) - self._others
        for child in children:
            child.terminate()  # at once: what it computes is for nobody
        alive = {child.sentinel: child for child in children}
        deadline = time.monotonic() + _STOP_SECONDS
        while alive and (left := deadline - time.monotonic()) > 0.0:
            for sentinel in wait(list(alive), left):
                del alive[cast("int", sentinel)]
        for child in alive.values():
            _LOG.error("simulation process %s did not stop", child.pid)
            child.kill()
        executor.shutdown(wait=True, cancel_futures=True)
