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
from icebus.rack.firmware import Evaluation
from icebus.rack.loop import Loop
from icebus.rack.verdict import Counted, Verdict

# A module that the pool's processes can import by its name, as they would the virtual FPGA.
CIRCUITS = """
import os, time
from icebus.fpga import SimulationResult as Result
from icebus.schemas.errors import BitstreamUnsupported, DecoderUnavailable

def count(bitstream, cycles, seed, pin):
    match bitstream:
        case b"unsupported": raise BitstreamUnsupported("uses a PLL")
        case b"unavailable": raise DecoderUnavailable("no chip database")
        case b"bug": raise RuntimeError("oops")
        case b"die": os._exit(3)
        case b"hang": time.sleep(600)
        case b"estimate": return Result(pulses=5, exact=False, cdone=True, note="long", delays=True)
        case b"crc": return Result(pulses=0, exact=True, cdone=False, note="")
        case b"pid": return Result(pulses=os.getpid(), exact=True, cdone=True, note="")
        case b"pins" if pin == 25: return Result(
            pulses=9, exact=False, cdone=True, note="loops", delays=True)
        case b"undriven" if pin == 25: return Result(
            pulses=9, exact=False, cdone=True, note="pin 25 is no output", delays=True)
    return Result(pulses=cycles + seed, exact=True, cdone=True, note="")
"""


class Pool:
    """A pool on a running loop; ``ask`` waits for its verdicts."""

    def __init__(self, evaluator: PoolEvaluator, loop: Loop) -> None:
        self.evaluator = evaluator
        self.loop = loop

    def ask(
        self, *bitstreams: bytes, cycles: int = 40, seed: int = 2, pins: tuple[int, ...] = (27,)
    ) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        all_there = threading.Event()

        def done(index: int, verdict: Verdict) -> None:
            verdicts[index] = verdict
            if len(verdicts) == len(bitstreams):
                all_there.set()

        def submit() -> None:
            for index, bitstream in enumerate(bitstreams):
                evaluation = Evaluation(bitstream, cycles, pins)
                self.evaluator.submit(evaluation, seed, partial(done, index))

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
        Verdict.of(42),
        Verdict.unsupported("uses a PLL"),
        Verdict.unavailable("no chip database"),
        Verdict.unsupported("simulation failed: RuntimeError('oops')"),
        Verdict.of(5, exact=False, note="long", delays=True),
        Verdict.refused(),
    ]


def test_given_a_bitstream_that_kills_its_process_when_evaluated_then_only_it_fails(
    pool: Any,
) -> None:
    (verdict,) = pool.ask(b"die")

    assert verdict == Verdict.unsupported("the simulation process died")
    assert pool.ask(b"") == [Verdict.of(42)]


def test_given_a_process_that_is_killed_when_evaluating_then_it_is_tried_again(pool: Any) -> None:
    (verdict,) = pool.ask(b"pid")
    assert verdict.pulses

    os.kill(verdict.pulses[0], signal.SIGKILL)

    assert pool.ask(b"", b"", b"") == [Verdict.of(42)] * 3


def test_given_a_simulation_that_does_not_end_when_time_is_up_then_it_is_given_up(
    pool: Any,
) -> None:
    start = time.monotonic()

    assert pool.ask(b"hang") == [Verdict.unsupported("simulation took longer than 0.5 s")]
    assert time.monotonic() - start < 10


def test_given_busy_processes_when_stopped_then_they_end(pool: Any, tmp_path: Path) -> None:
    loop = Loop()
    evaluator = PoolEvaluator(loop, 1, pool.evaluator._count, limit=60)
    evaluator.start()
    pids: list[int] = []

    def done(verdict: Verdict) -> None:
        pids.extend(verdict.pulses)
        loop.stop()

    evaluator.submit(Evaluation(b"pid", 0), 0, done)
    loop.run()
    evaluator.submit(Evaluation(b"hang", 0), 0, lambda verdict: None)

    evaluator.stop()

    loop.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_given_several_pins_when_evaluated_then_each_is_counted_and_notes_name_theirs(
    pool: Any,
) -> None:
    assert pool.ask(b"pins", pins=(27, 25, 21)) == [
        Verdict.of(42, 9, 42, exact=False, note="pin 25: loops", delays=True)
    ]
    assert pool.ask(b"unsupported", b"crc", pins=(27, 25)) == [
        Verdict.unsupported("pin 27: uses a PLL"),
        Verdict.refused(),
    ]


def test_given_a_note_that_names_its_pin_when_several_are_counted_then_it_names_it_once(
    pool: Any,
) -> None:
    (verdict,) = pool.ask(b"undriven", pins=(27, 25))
    assert verdict.note == "pin 25 is no output"


@given(
    st.builds(
        Verdict,
        st.sampled_from(Counted),
        st.lists(st.integers(0, 1 << 40), max_size=4).map(tuple),
        st.booleans(),
        st.booleans(),
        st.text(),
        st.booleans(),
    )
)
def test_given_a_verdict_when_sent_to_another_process_then_it_is_the_same(
    verdict: Verdict,
) -> None:
    assert Verdict.from_bytes(verdict.to_bytes()) == verdict
