from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.rack.evaluator import PoolEvaluator
from icebus.rack.loop import Loop
from icebus.rack.verdict import Verdict

# A module that the pool's processes can import by its name, as they would the virtual FPGA.
CIRCUITS = """
import os, time
from types import SimpleNamespace
from icebus.schemas.errors import BitstreamUnsupported, DecoderUnavailable

def count(bitstream, cycles, seed):
    match bitstream:
        case b"unsupported": raise BitstreamUnsupported("uses a PLL")
        case b"unavailable": raise DecoderUnavailable("no chip database")
        case b"bug": raise RuntimeError("oops")
        case b"die": os._exit(3)
        case b"hang": time.sleep(600)
        case b"estimate": return SimpleNamespace(pulses=5, exact=False, cdone=True, note="long")
        case b"crc": return SimpleNamespace(pulses=0, exact=True, cdone=False, note="")
        case b"pid": return SimpleNamespace(pulses=os.getpid(), exact=True, cdone=True, note="")
    return SimpleNamespace(pulses=cycles + seed, exact=True, cdone=True, note="")
"""


class Pool:
    """A pool on a running loop; ``ask`` waits for its verdicts."""

    def __init__(self, evaluator: PoolEvaluator, loop: Loop) -> None:
        self.evaluator = evaluator
        self.loop = loop

    def ask(self, *bitstreams: bytes, cycles: int = 40, seed: int = 2) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        all_there = threading.Event()

        def done(index: int, verdict: Verdict) -> None:
            verdicts[index] = verdict
            if len(verdicts) == len(bitstreams):
                all_there.set()

        def submit() -> None:
            for index, bitstream in enumerate(bitstreams):
                self.evaluator.submit(bitstream, cycles, seed, partial(done, index))

        self.loop.call_threadsafe(submit)
        assert all_there.wait(30)
        return [verdicts[index] for index in range(len(bitstreams))]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    directory = tmp_path_factory.mktemp("circuits")
    (directory / "icebus_test_circuits.py").write_text(CIRCUITS)
    sys.path.insert(0, str(directory))
    import icebus_test_circuits  # type: ignore[import-not-found]

    loop = Loop()
    evaluator = PoolEvaluator(loop, 1, icebus_test_circuits.count, limit=0.5)
    thread = threading.Thread(target=loop.run)
    evaluator.start()
    thread.start()
    yield Pool(evaluator, loop)
    stopped = threading.Event()

    def stop() -> None:
        evaluator.stop()
        stopped.set()
        loop.stop()

    loop.call_threadsafe(stop)
    assert stopped.wait(20)
    thread.join(10)
    loop.close()
    sys.path.remove(str(directory))


def test_given_bitstreams_when_evaluated_then_the_verdicts_say_what_the_fpga_said(
    pool: Any,
) -> None:
    assert pool.ask(b"", b"unsupported", b"unavailable", b"bug", b"estimate", b"crc") == [
        Verdict("virtual FPGA: exact", 42),
        Verdict("virtual FPGA: unsupported: uses a PLL", None),
        Verdict("virtual FPGA: decoder unavailable: no chip database", None),
        Verdict("virtual FPGA: unsupported: simulation failed: RuntimeError('oops')", None),
        Verdict("virtual FPGA: estimate: long", 5),
        Verdict("virtual FPGA: cdone low", 0),
    ]


def test_given_a_bitstream_that_kills_its_process_when_evaluated_then_only_it_fails(
    pool: Any,
) -> None:
    (verdict,) = pool.ask(b"die")

    assert verdict == Verdict("virtual FPGA: unsupported: the simulation process died", None)
    assert pool.ask(b"") == [Verdict("virtual FPGA: exact", 42)]


def test_given_a_process_that_is_killed_when_evaluating_then_it_is_tried_again(pool: Any) -> None:
    (verdict,) = pool.ask(b"pid")
    assert verdict.pulses

    os.kill(verdict.pulses, signal.SIGKILL)

    assert pool.ask(b"", b"", b"") == [Verdict("virtual FPGA: exact", 42)] * 3


def test_given_a_simulation_that_does_not_end_when_time_is_up_then_it_is_given_up(
    pool: Any,
) -> None:
    start = time.monotonic()

    assert pool.ask(b"hang") == [
        Verdict("virtual FPGA: unsupported: simulation took longer than 0.5 s", None)
    ]
    assert time.monotonic() - start < 10


def test_given_busy_processes_when_stopped_then_they_end(pool: Any, tmp_path: Path) -> None:
    loop = Loop()
    evaluator = PoolEvaluator(loop, 1, pool.evaluator._count, limit=60)
    evaluator.start()
    pids: list[int] = []

    def done(verdict: Verdict) -> None:
        pids.append(verdict.pulses or 0)
        loop.stop()

    evaluator.submit(b"pid", 0, 0, done)
    loop.run()
    evaluator.submit(b"hang", 0, 0, lambda verdict: None)

    evaluator.stop()

    loop.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


@given(st.text(), st.none() | st.integers(0, 1 << 40))
def test_given_a_verdict_when_sent_to_another_process_then_it_is_the_same(
    line: str, pulses: int | None
) -> None:
    verdict = Verdict(line, pulses)

    assert Verdict.from_bytes(verdict.to_bytes()) == verdict
